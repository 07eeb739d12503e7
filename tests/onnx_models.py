"""The ONNX project's own test models: one for nearly every form of every op, and exported ones.

The `onnx` package brings them: the node models as code that makes them, the others (small PyTorch
exports, sequences, strings, expanded functions) as files. `product_behind` puts a quantizable
MatMul behind a model, so that calibration and Q/DQ have to get through the op in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.numpy_helper import from_array, to_array

FOLDERS = ("simple", "pytorch-operator", "pytorch-converted")  # in onnx/backend/test/data
TENSOR = "tensor_type"


@dataclass(frozen=True)
class Case:
    """A model and what its test feeds it, in the order of its inputs: arrays, or lists of them."""

    name: str
    model: onnx.ModelProto
    feeds: tuple[Any, ...]

    @property
    def by_name(self) -> dict[str, Any]:
        return {i.name: x for i, x in zip(self.model.graph.input, self.feeds, strict=False)}


def every_case() -> list[Case]:
    """All test models of the installed onnx package."""
    return [*_node_cases(), *_saved_cases()]


def _node_cases() -> Iterator[Case]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the models are made here, infinities and all
        cases = collect_testcases(None)
    for case in cases:
        inputs, _ = case.data_sets[0]
        feeds = tuple(to_array(x) if isinstance(x, onnx.TensorProto) else x for x in inputs)
        yield Case(case.name, case.model, feeds)


def _saved_cases() -> Iterator[Case]:
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for path in sorted(p for folder in FOLDERS for p in (root / folder).glob("*/model.onnx")):
        model = onnx.load(path)
        files = [path.parent / "test_data_set_0" / f"input_{i}.pb" for i in range(64)]
        feeds = []
        for file, value in zip([f for f in files if f.is_file()], model.graph.input, strict=False):
            if value.type.WhichOneof("value") == TENSOR:
                feeds.append(to_array(onnx.TensorProto.FromString(file.read_bytes())))
            else:
                sequence = onnx.SequenceProto.FromString(file.read_bytes())
                feeds.append(onnx.numpy_helper.to_list(sequence))
        yield Case(f"{path.parent.parent.name}/{path.parent.name}", model, tuple(feeds))


def product_behind(case: Case) -> Case | None:
    """The model with its first float input left, constants for the others, and a MatMul with a
    constant behind its first float output of two axes or more; None where it has none of them."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    values = list(zip(model.graph.input, case.feeds, strict=False))
    floats = [i for i, (value, x) in enumerate(values) if _is_float(value, x)]
    output = next((o for o in model.graph.output if _width(o)), None)
    plain = all(_is_numbers(value, x) for value, x in values)
    standard = any(opset.domain == "" for opset in model.opset_import)
    if not (floats and output and plain and standard):
        return None
    kept, x = values[floats[0]][0], np.asarray(values[floats[0]][1])
    held = {t.name for t in model.graph.initializer}
    fixed = [from_array(np.asarray(y), v.name) for v, y in values if v.name not in held]
    model.graph.initializer.extend(t for t in fixed if t.name != kept.name)
    inputs = [onnx.ValueInfoProto.FromString(kept.SerializeToString())]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    weight = np.random.default_rng(0).normal(size=(_width(output), 8)).astype(np.float32)
    model.graph.initializer.append(from_array(weight, "behind_weight"))
    model.graph.node.append(
        onnx.helper.make_node("MatMul", [output.name, "behind_weight"], ["behind"])
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("behind", 1, None))
    model.ir_version = max(model.ir_version, 4)  # before it constants had to be inputs too
    return Case(case.name, model, (x,))


def _is_float(value: onnx.ValueInfoProto, x: Any) -> bool:
    return _is_numbers(value, x) and np.asarray(x).dtype == np.float32


def _is_numbers(value: onnx.ValueInfoProto, x: Any) -> bool:
    """Whether an input is a tensor of a type that NumPy has."""
    return value.type.WhichOneof("value") == TENSOR and np.asarray(x).dtype.kind in "fiub"


def _width(value: onnx.ValueInfoProto) -> int:
    """The last length of a float32 output with two axes or more; 0 for any other output."""
    kind = value.type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT or len(kind.shape.dim) < 2:
        return 0
    return int(kind.shape.dim[-1].dim_value)


def same(a: Sequence[Any], b: Sequence[Any], rtol: float, atol: float) -> bool:
    """Whether two lists of outputs agree: types, shapes, numbers; infinities and NaN in place."""
    if len(a) != len(b):
        return False
    return all(_same(x, y, rtol, atol) for x, y in zip(a, b, strict=True))


def _same(a: Any, b: Any, rtol: float, atol: float) -> bool:
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and same(a, b, rtol, atol)
    if a is None or b is None or isinstance(a, dict):
        return bool(a == b)
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "V":  # bfloat16 and narrower: NaN there is a NaN, bit for bit
        return a.tobytes() == b.tobytes()
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    return np.allclose(a, b, rtol, atol, equal_nan=True)
