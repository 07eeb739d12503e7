"""Compute what does not depend on the inputs: Constant nodes, shape arithmetic, weights behind
Transpose, Reshape or Cast.

Each node whose inputs are all constant is evaluated on its own with onnx's reference
implementation, so one that cannot be evaluated (a custom op) costs only itself. A `Shape` node,
or the entries a Gather or Slice picks from it, is constant where the tensor's dimensions are
numbers: run `infer_shapes` first, so that they are the model's and not its example input's.
Nodes that do the same to the same constants, such as the Transposes of a weight that layers share,
make one constant.

Left as they are: QuantizeLinear and DequantizeLinear (they are the quantization), random ops,
nodes with subgraphs, and nodes that would blow up the model (Expand, Tile, ConstantOfShape).
"""

from __future__ import annotations

import logging
from collections.abc import Container, Hashable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxq.arrays import Array
from onnxq.errors import ModelError
from onnxq.model.graph import Graph, Node, Tensor, constant_of, is_output, is_standard, producer
from onnxq.passes.remove_identity import replace_tensor

log = logging.getLogger(__name__)


MOST_BYTES = 2 << 30  # of a constant: what is larger no protobuf message holds
BOMB_BYTES = 16 << 30  # and this no machine, while it loads the model
MAX_GROWTH = 4  # a fold may make 4 bytes out of each (INT8 weights cast to FP32) ...
FREE_BYTES = 64 * 1024  # ... and this much out of nothing
NEVER = {
    "QuantizeLinear": "it is part of the quantization",
    "DequantizeLinear": "it is part of the quantization",
    "DynamicQuantizeLinear": "it is part of the quantization",
    "RandomNormal": "it is random",
    "RandomUniform": "it is random",
    "RandomNormalLike": "it is random",
    "RandomUniformLike": "it is random",
    "Multinomial": "it is random",
    "Bernoulli": "it is random",
}


def fold_constants(graph: Graph, only: Container[int] | None = None) -> int:
    """Fold; how many nodes became constants. The graph must be sorted topologically.

    only: the ids of the nodes to look at, where not all are to be.

    Raises ModelError where constants alone make a tensor that no machine holds.
    """
    _refuse_bombs(graph)
    count = 0
    made: dict[Hashable, list[Tensor]] = {}
    for node in graph.nodes if only is None else [n for n in graph.nodes if id(n) in only]:
        work = _work(node)
        values = None if work in made else _values_of(graph, node)
        if work in made and not any(is_output(graph, t) for t in node.outputs):
            for tensor, twin in zip(_named(node.outputs), made[work], strict=True):
                replace_tensor(tensor, twin)
        elif values is None:
            continue
        else:
            if any(len({id(n) for n in t.outputs}) > 1 for t in _named(node.inputs)):
                made[work] = _named(node.outputs)  # another may do the same: kept for it
            for tensor, value in zip(_named(node.outputs), values, strict=True):
                tensor.inputs.clear()
                tensor.to_constant(value)
        node.inputs.clear()
        node.outputs.clear()
        count += 1
    if count:
        graph.nodes = [node for node in graph.nodes if node.outputs]
    return count


def _work(node: Node) -> Hashable:
    """What a node does and to what; nodes that do the same write the same, `node` alone where that
    does not tell."""
    if node.op == "Constant" or not all(isinstance(t, gs.Constant) for t in _named(node.inputs)):
        return id(node)
    written = tuple(not t.is_empty() for t in node.outputs)
    return node.op, node.domain, repr(sorted(node.attrs.items())), written, *map(id, node.inputs)


def _named(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t for t in tensors if not t.is_empty()]


def _values_of(graph: Graph, node: Node) -> list[Array] | None:
    """The values of the node's named outputs; None if it stays, with the reason in the log."""
    dims = _known_dims(node)
    constant = all(isinstance(t, gs.Constant) for t in _named(node.inputs))
    if (dims is None and not constant) or not is_standard(node):
        return None
    if reason := _reason_to_keep(graph, node):
        log.info("%s '%s' kept: %s", node.op, node.name, reason)
        return None
    if dims is not None:
        return [dims]
    if node.op == "Constant" and (value := constant_of(node.outputs[0])) is not None:
        return [value]
    values = _evaluate(graph, node)
    if isinstance(values, str):
        log.info("%s '%s' kept: %s", node.op, node.name, values)
        return None
    return values


def _refuse_bombs(graph: Graph) -> None:
    """Raises ModelError for constants that would take all memory: a chain of Concats doubles one
    each time, and what onnxq does not fold, every runtime folds."""
    computed: set[int] = set()  # tensors that constants alone make
    for node in graph.nodes:
        inputs = _named(node.inputs)
        if all(isinstance(t, gs.Constant) or id(t) in computed for t in inputs):
            computed |= {id(t) for t in node.outputs}
            if (ahead := _bytes_ahead(node)) > BOMB_BYTES:
                raise ModelError(f"{node.op} '{node.name}' makes {ahead >> 30} GB of constants; "
                                 "take it out of the model")  # fmt: skip


def _reason_to_keep(graph: Graph, node: Node) -> str:
    if node.op in NEVER:
        return NEVER[node.op]
    if any(True for _ in node.subgraphs()):
        return "it holds a subgraph"
    if any(is_output(graph, t) for t in node.outputs):
        return "it writes an output of the graph"
    if node.op != "Constant" and _bytes_ahead(node) > min(MOST_BYTES, _allowed_bytes(node)):
        return f"its result would take {_bytes_ahead(node)} bytes"
    return ""


def _allowed_bytes(node: Node) -> int:
    return FREE_BYTES + MAX_GROWTH * sum(_nbytes(t.shape, t.dtype) for t in _named(node.inputs))


def _bytes_ahead(node: Node) -> int:
    """Bytes of the result as far as they are known before it is computed, else 0."""
    if node.op in ("ConstantOfShape", "Expand") and isinstance(node.inputs[-1], gs.Constant):
        return _nbytes(node.inputs[-1].values.ravel().tolist(), np.float32)
    if node.op == "Tile" and all(isinstance(t, gs.Constant) for t in node.inputs):
        data, repeats = node.inputs
        return _nbytes(data.shape, data.dtype) * int(np.prod(repeats.values, dtype=object))
    return sum(_nbytes(t.shape, t.dtype) for t in _named(node.outputs))


def _nbytes(shape: Sequence[Any] | None, dtype: Any) -> int:
    if shape is None or not all(isinstance(d, int) and d >= 0 for d in shape):
        return 0
    itemsize = 4 if dtype is None or isinstance(dtype, int) else np.dtype(dtype).itemsize
    return int(np.prod(list(shape), dtype=object)) * itemsize


def _evaluate(graph: Graph, node: Node) -> list[Array] | str:
    """The named outputs of a node with constant inputs, or the reason why there are none."""
    from onnx.reference import ReferenceEvaluator  # slow to import

    inputs = {t.name: np.asarray(t.values) for t in _named(node.inputs)}
    outputs = _named(node.outputs)
    try:
        model = onnx.helper.make_model(
            onnx.helper.make_graph(
                [OnnxExporter.export_node(node)],
                "fold",
                [_info(name, value) for name, value in inputs.items()],
                [onnx.helper.make_empty_tensor_value_info(t.name) for t in outputs],
            ),
            opset_imports=[onnx.helper.make_opsetid("", graph.opset)],
        )
        with np.errstate(all="ignore"):
            values: list[Any] = list(ReferenceEvaluator(model).run(None, inputs))
    except Exception as e:  # whatever the implementation of the op stumbles over
        return f"it cannot be computed ({type(e).__name__}: {str(e).splitlines()[:1]})"
    for tensor, value in zip(outputs, values, strict=True):
        if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind in "OSU":
            return "its result is not a tensor of numbers"
        if tensor.dtype is not None and not isinstance(tensor.dtype, int):
            expected = np.dtype(tensor.dtype)
            if value.dtype != expected:
                return f"its result came out as {value.dtype}, not {expected}"
    if sum(v.nbytes for v in values) > _allowed_bytes(node):
        return f"its result would take {sum(v.nbytes for v in values)} bytes"
    return [np.asarray(v) for v in values]


def _info(name: str, value: Array) -> onnx.ValueInfoProto:
    dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(name, dtype, value.shape)


def _known_dims(node: Node) -> Array | None:
    """What a Shape, Gather(Shape) or Slice(Shape) yields where those dimensions are numbers."""
    if node.op == "Shape":
        picked = _dims_of(node)
    elif node.op in ("Gather", "Slice") and (shape := producer(node.inputs[0])) is not None:
        dims = _dims_of(shape)
        parameters = [constant_of(t) for t in node.inputs[1:] if not t.is_empty()]
        if dims is None or not parameters or any(p is None for p in parameters):
            return None
        places = np.arange(len(dims))
        kept = _pick(node, places, parameters)
        picked = None if kept is None else [dims[i] for i in kept.ravel()]
        if kept is not None and picked is not None and _numbers(picked):
            return np.asarray(picked, np.int64).reshape(kept.shape)
        return None
    else:
        return None
    return np.asarray(picked, np.int64) if picked is not None and _numbers(picked) else None


def _dims_of(node: Node) -> list[Any] | None:
    if node.op != "Shape" or node.inputs[0].shape is None:
        return None
    return list(node.inputs[0].shape)[node.attrs.get("start", 0) : node.attrs.get("end")]


def _pick(node: Node, places: Array, parameters: list[Any]) -> Array | None:
    if node.op == "Gather":
        indices = parameters[0]
        inside = np.all((indices >= -len(places)) & (indices < len(places)))
        return np.asarray(places[indices]) if inside else None
    if len(node.inputs) < 3 or any(t.is_empty() for t in node.inputs[1:]):
        return None
    starts, ends, step = parameters[0], parameters[1], 1
    if len(parameters) > 3:
        step = int(parameters[3].ravel()[0])
    return places[int(starts.ravel()[0]) : int(ends.ravel()[0]) : step]


def _numbers(dims: Sequence[Any]) -> bool:
    return all(isinstance(d, int) and d >= 0 for d in dims)
