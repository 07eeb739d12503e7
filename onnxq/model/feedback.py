"""Outputs that become inputs of the next sample, `h_out=h`, by which a model remembers: the state
of a recurrent cell, the cache of a streaming convolution, the memory of a detector over frames."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from onnxq.errors import DataError, PlanError
from onnxq.model.graph import Graph, Tensor
from onnxq.model.model_file import mentions

FED = "onnxq.feedback"  # the entry of a model's metadata
NONE = ("none",)  # what says that nothing is fed back, whatever the model remembers


def parse_feedback(texts: Iterable[str]) -> dict[str, str]:
    """Output -> the input that it becomes, as OUT=IN texts say; raises PlanError."""
    found: dict[str, str] = {}
    if tuple(texts) == NONE:
        return found
    for text in texts:
        out, equals, name = text.partition("=")
        if not (out and equals and name):
            raise PlanError(f"--feedback '{text}' is not OUT=IN, such as state_out=state")
        _add(found, out, name)
    return found


def _add(found: dict[str, str], out: str, name: str) -> None:
    """One more pair; raises PlanError for an input that is fed already."""
    for other, into in found.items():
        if into == name:
            raise PlanError(f"--feedback feeds input '{name}' twice, by '{other}' and by '{out}'; "
                            "leave one of them out")  # fmt: skip
    if out in found:
        raise PlanError(f"--feedback gives output '{out}' twice, to '{found[out]}' and to "
                        f"'{name}'; leave one of them out")  # fmt: skip
    found[out] = name


def of_mapping(given: object, where: str) -> dict[str, str]:
    """The pairs that a mapping of the user's says; raises DataError, which names `where`."""
    if not isinstance(given, Mapping) or not all(
        isinstance(one, str) for pair in given.items() for one in pair
    ):
        raise DataError(
            f"{where}: its 'feedback' is not a mapping of an output's name to an input's"
        )
    found: dict[str, str] = {}
    for out, name in given.items():
        _add(found, out, name)
    return found


def check_feedback(graph: Graph, feedback: Mapping[str, str]) -> None:
    """Raises PlanError for names that the graph has not, and for an output whose type or shape is
    not that of the input; axes of any length fit all."""
    inputs, outputs = ({t.name: t for t in ends} for ends in (graph.inputs, graph.outputs))
    for out, name in feedback.items():
        said = f"--feedback {out}={name}"
        for kind, one, known in (("output", out, outputs), ("input", name, inputs)):
            if one not in known:
                listed = ", ".join(f"'{n}'" for n in known)
                raise PlanError(f"{said}: the model has no {kind} '{one}'; it has {listed}")
        a, b = outputs[out], inputs[name]
        if not fits(a, b):
            raise PlanError(f"{said}: the output is {form(a)}, the input {form(b)}; feed back "
                            "what has the same type and shape")  # fmt: skip
    if feedback and not inputs.keys() - set(feedback.values()):
        raise PlanError("--feedback feeds every input of the model; no data would be left")


def fits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are of one type and shape; axes of any length fit all, and so does what
    is not declared."""
    return _same_type(a, b) and _same_shape(a.shape, b.shape)


def _same_type(a: Tensor, b: Tensor) -> bool:
    if a.dtype is None or b.dtype is None:
        return True
    return bool(a.dtype == b.dtype) or str(_dtype(a)) == str(_dtype(b))


def _same_shape(a: Sequence[object] | None, b: Sequence[object] | None) -> bool:
    if a is None or b is None:
        return True
    fixed = [
        (n, m) for n, m in zip(a, b, strict=False) if isinstance(n, int) and isinstance(m, int)
    ]
    return len(a) == len(b) and all(n == m or min(n, m) < 0 for n, m in fixed)


def _dtype(tensor: Tensor) -> object:
    if isinstance(tensor.dtype, int):
        return onnx.TensorProto.DataType.Name(tensor.dtype)
    return np.dtype(tensor.dtype) if tensor.dtype is not None else "of no type"


def form(tensor: Tensor) -> str:
    """Type and shape of a tensor, in words."""
    if tensor.shape is None:
        return f"{_dtype(tensor)} of any shape"
    axes = ", ".join(str(n) if isinstance(n, int) else "?" for n in tensor.shape)
    return f"{_dtype(tensor)} ({axes})"


def remembered(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a model's metadata says is fed back; nothing where it does not say it."""
    with contextlib.suppress(ValueError, TypeError):
        said = json.loads(metadata.get(FED, "{}"))
        if isinstance(said, dict) and all(isinstance(v, str) for v in said.values()):
            return said
    return {}


def remembered_by(path: Path) -> dict[str, str]:
    """What a model file says is fed back; nothing of a file that is no ONNX model."""
    if not path.is_file() or path.suffix != ".onnx" or not mentions(path, FED):
        return {}
    model = onnx.load(path, load_external_data=False)
    return remembered({entry.key: entry.value for entry in model.metadata_props})
