"""Custom ops in Python, for models whose custom ops have no library that runs here.

A module of the user's declares them with onnxruntime-extensions:

    @onnx_op(op_type="SparseConvolution", inputs=[PyOp.dt_float] * 3, outputs=[PyOp.dt_float],
             attrs={"kernel_size": PyOp.dt_string, "subm": PyOp.dt_int64})
    def sparse_convolution(features, weight, bias, **attributes): ...

Such ops live in one domain, take a fixed number of inputs that are not FP16, and know attributes
that are a number or text. So in the model that ONNX Runtime gets, and there alone, every node of
the type moves to that domain; an input it leaves out is an empty array, FP16 is cast to float32 and
back, an attribute that is declared as text gets lists as JSON, one that is missing is 0 or empty.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from onnxq.errors import ModelError, RuntimeMissing
from onnxq.imports import fault, module_of, users_code

DOMAIN = "ai.onnx.contrib"  # of every op that is declared in Python
_LAST = threading.local()  # what went wrong in an op; an exception would end the process


@dataclass(frozen=True)
class PythonOp:
    """What a declared op takes and gives: ONNX types of inputs, outputs and attributes."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attributes: Mapping[str, int]


@functools.cache
def python_ops(module: str) -> Mapping[str, PythonOp]:
    """The ops that `module`, an importable name or a .py file, declares, by type.

    Raises ModelError for a module that cannot be imported or declares none.
    """
    try:
        from onnxruntime_extensions import Opdef
    except ImportError as e:
        raise RuntimeMissing(
            "--ort-extension needs onnxruntime-extensions; pip install onnxruntime-extensions"
        ) from e
    found = {}
    for declared in vars(_imported(module)).values():
        if isinstance(declared, Opdef):
            native = declared._nativedef
            op = PythonOp(
                declared.op_type,
                tuple(int(t) for t in native.input_types),
                tuple(int(t) for t in native.output_types),
                {name: int(kind) for name, kind in native.attrs.items()},
            )
            declared.body = _guarded(op, declared.body)
            found[op.name] = op
    if not found:
        raise ModelError(f"--ort-extension '{module}' declares no op; decorate a function with "
                         "onnxruntime_extensions.onnx_op(op_type=...)")  # fmt: skip
    return found


def file_of(module: str) -> Path | None:
    """The file of `module`, an importable name or a .py file; None where it has none.

    Raises ModelError for a name that cannot be imported.
    """
    file = module if module.endswith(".py") else _imported(module).__file__
    return Path(file) if file else None


def _imported(module: str) -> ModuleType:
    advice = "; name a module on the Python path or in the current folder, or a .py file"
    with users_code(f"--ort-extension '{module}' cannot be imported", ModelError, advice):
        return module_of(module)


def _guarded(op: PythonOp, body: Callable[..., Any]) -> Callable[..., Any]:
    """`body`, which keeps what goes wrong for `check` and hands on arrays in any case."""

    def call(*inputs: Any, **attributes: Any) -> Any:
        try:
            found = body(*inputs, **attributes)
            values = found if isinstance(found, tuple) else (found,)
            if len(values) != len(op.outputs):
                raise TypeError(f"it returned {len(values)} values, not {len(op.outputs)}")
            arrays = tuple(np.asarray(v) for v in values)
        except Exception as e:  # whatever the user's code raises
            _LAST.failure = f"the Python op '{op.name}' failed: {fault(e)}"
            arrays = tuple(np.zeros(1, np.float32) for _ in op.outputs)
        return arrays if len(arrays) > 1 else arrays[0]

    return call


def check() -> None:
    """Raises ModelError if an op failed in this thread since the last check."""
    failure, _LAST.failure = getattr(_LAST, "failure", None), None
    if failure:
        raise ModelError(failure)


def bridged(model: onnx.ModelProto, ops: Mapping[str, PythonOp]) -> onnx.ModelProto:
    """A copy of `model` in which `ops` compute the nodes of their types; `model` if it has none.

    Raises ModelError for a node that its op cannot take.
    """
    if not any(node.op_type in ops for node in model.graph.node):
        return model
    out = onnx.ModelProto()
    out.CopyFrom(model)
    half = any(t.data_type == TensorProto.FLOAT16 for t in model.graph.initializer) or any(
        v.type.tensor_type.elem_type == TensorProto.FLOAT16 for v in model.graph.input
    )
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        op = ops.get(node.op_type)
        nodes += [node] if op is None else _calls(node, op, half)
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    for kind in sorted({t for op in ops.values() for t in op.inputs}):
        out.graph.initializer.append(helper.make_tensor(_absent(kind), kind, [0], []))
    if all(opset.domain != DOMAIN for opset in out.opset_import):
        out.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return out


def _absent(kind: int) -> str:
    return f"onnxq_absent_{TensorProto.DataType.Name(kind).lower()}"


def _calls(node: NodeProto, op: PythonOp, half: bool) -> Iterator[NodeProto]:
    """The op in place of `node`, between the Casts that FP16 needs."""
    if len(node.input) > len(op.inputs) or len(node.output) > len(op.outputs):
        raise ModelError(
            f"node '{node.name}' has {len(node.input)} inputs and {len(node.output)} outputs, the "
            f"Python op '{op.name}' {len(op.inputs)} and {len(op.outputs)}; declare them all"
        )
    stem = f"{node.name or node.output[0]}_python"
    inputs, outputs, after = [], [], []
    for i, kind in enumerate(op.inputs):
        name = (node.input[i] if i < len(node.input) else "") or _absent(kind)
        if half and kind == TensorProto.FLOAT and name != _absent(kind):
            yield helper.make_node("Cast", [name], [f"{stem}_in{i}"], to=TensorProto.FLOAT)
            name = f"{stem}_in{i}"
        inputs.append(name)
    for i, kind in enumerate(op.outputs):
        name = node.output[i] if i < len(node.output) else ""
        if not name or (half and kind == TensorProto.FLOAT):
            outputs.append(f"{stem}_out{i}")
            if name:
                after.append(helper.make_node("CastLike", [outputs[-1], node.input[0]], [name]))
        else:
            outputs.append(name)
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    call = helper.make_node(op.name, inputs, outputs, node.name, domain=DOMAIN)
    for name, kind in op.attributes.items():
        call.attribute.append(
            helper.make_attribute(name, _value(node, name, given.get(name), kind))
        )
    yield call
    yield from after


def _value(node: NodeProto, name: str, value: Any, kind: int) -> int | float | str:
    """The value of an attribute in the type that the op declares."""
    if kind == TensorProto.STRING:
        if isinstance(value, bytes):
            return value.decode()
        return "" if value is None else json.dumps(value)
    try:
        return int(value or 0) if kind == TensorProto.INT64 else float(value or 0)
    except (TypeError, ValueError) as e:
        raise ModelError(
            f"attribute '{name}' of node '{node.name}' is {type(value).__name__}, not a number; "
            "declare it as PyOp.dt_string to get it as text, a list as JSON"
        ) from e
