"""The Q/DQ of a graph, read out: every quantizer with its numbers, and every tensor's type.

Scales that are computed of constants are computed here; ops of any domain count, as tools write
some into a domain of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxq import fp4
from onnxq.arrays import Array
from onnxq.errors import ModelError
from onnxq.model.graph import Graph, Node, Tensor, behind, constant_of, is_standard, producer

FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
TO_BOOL = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "IsNaN")
QUANTIZED_OPS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
    "ConvInteger", "MatMulInteger", "QLinearAdd", "QGemm", fp4.DYNAMIC,
})  # fmt: skip


@dataclass(frozen=True)
class Quantizer:
    """One QuantizeLinear or DequantizeLinear.

    scale, zero_point: values, None where computed (or, a zero point, where there is none).
    dtype: ONNX type of the codes. axis: as written, None where it is not. dynamic: whether the
    scales of its blocks are read off what it quantizes, so that `scale` is that of the tensor (s of
    `fp4`). A DequantizeLinear that gives another one its scales is no Quantizer.
    """

    node: Node
    scale: Array | None
    zero_point: Array | None
    dtype: str | None
    axis: int | None
    block_size: int
    dynamic: bool = False

    @property
    def quantizes(self) -> bool:
        """Whether this is a QuantizeLinear, or quantizes to FP4."""
        return bool(self.node.op in ("QuantizeLinear", fp4.DYNAMIC))

    @property
    def data(self) -> Tensor:
        """What it reads."""
        return self.node.inputs[0]

    @property
    def out(self) -> Tensor:
        """What it writes."""
        return self.node.outputs[0]

    @property
    def per_channel(self) -> bool:
        """Whether it has several scales along one axis."""
        return self.scale is not None and self.scale.ndim == 1 and self.scale.size > 1


@dataclass(frozen=True)
class Qdq:
    """A graph with its Q/DQ. Nodes include those of subgraphs; types are ONNX's, by tensor."""

    graph: Graph
    nodes: tuple[Node, ...]
    quantizers: tuple[Quantizer, ...]
    types: dict[str, str]
    by_node: dict[int, Quantizer] = field(repr=False)

    @property
    def opset(self) -> int:
        """The opset of the default domain."""
        return int(self.graph.opset)

    def type_of(self, tensor: Tensor) -> str | None:
        """The ONNX type of a tensor, such as "FLOAT16"; None where it is not known."""
        return self.types.get(tensor.name)

    def quantizer(self, tensor: Tensor) -> Quantizer | None:
        """The Q or DQ that writes `tensor`."""
        node = producer(tensor)
        return None if node is None else self.by_node.get(id(node))

    def dequantizer(
        self, tensor: Tensor, through: tuple[str, ...] = ("Identity",)
    ) -> Quantizer | None:
        """The DQ that writes `tensor`, looking through ops of the types `through`."""
        found = self.quantizer(behind(tensor, through))
        return None if found is None or found.quantizes else found

    def source(self, dequantizer: Quantizer) -> Tensor:
        """The float tensor behind a DQ's Q, or the codes where it has none."""
        before = self.quantizer(dequantizer.data)
        return before.data if before is not None and before.quantizes else dequantizer.data

    def is_weight(self, dequantizer: Quantizer) -> bool:
        """Whether a DQ gives a constant: stored codes, or a float constant behind a Q."""
        return is_constant(self.source(dequantizer))


def read_qdq(graph: Graph) -> Qdq:
    """The Q/DQ of a graph, which is left alone."""
    nodes = tuple(_all_nodes(graph))
    values: dict[str, Array | None] = {}
    read = [n for n in nodes if n.op == fp4.DYNAMIC or (is_qdq(n) and not gives_scales(n))]
    quantizers = tuple(_read(node, values) for node in read)
    by_node = {id(q.node): q for q in quantizers}
    return Qdq(graph, nodes, quantizers, _types(graph, nodes, by_node), by_node)


def is_qdq(node: Node) -> bool:
    """Whether a node is a QuantizeLinear or DequantizeLinear, of whatever domain."""
    return node.op in ("QuantizeLinear", "DequantizeLinear") and len(node.inputs) > 1


def gives_scales(node: Node) -> bool:
    """Whether a node is a DequantizeLinear of the scales of others, as of FP4 blocks."""
    if node.op != "DequantizeLinear":
        return False
    readers = node.outputs[0].outputs if node.outputs else []
    return bool(readers) and all(
        n.op == "DequantizeLinear" and n.inputs[1] is node.outputs[0] for n in readers
    )


def dynamic_quantizer(dequantizer: Node) -> Node | None:
    """The node that quantizes to FP4 what a DequantizeLinear reads."""
    node = producer(dequantizer.inputs[0])
    return node if node is not None and node.op == fp4.DYNAMIC else None


def is_constant(tensor: Tensor) -> bool:
    """Whether a tensor is an initializer or what a Constant node gives."""
    node = producer(tensor)
    return isinstance(tensor, gs.Constant) or (node is not None and node.op == "Constant")


def dequantizer(tensor: Tensor) -> Node | None:
    """The DequantizeLinear that writes `tensor`."""
    node = producer(tensor)
    return node if node is not None and node.op == "DequantizeLinear" else None


def dequantized(node: Node, codes: Array, scale: Array, zero_point: Array | None) -> Array:
    """What the DequantizeLinear `node` makes of codes, in float64; raises as `spread_for`."""
    zero = np.zeros_like(scale) if zero_point is None else zero_point
    wide = [spread_for(node, v.astype(np.float64), codes.shape) for v in (scale, zero)]
    return np.asarray((codes.astype(np.float64) - wide[1]) * wide[0])


def spread_for(node: Node, values: Array, shape: tuple[int, ...]) -> Array:
    """A scale or zero point (per tensor, per channel or per block) that broadcasts to `shape`."""
    if values.size == 1:
        return values.reshape(())
    axis = node.attrs.get("axis", 1)
    if not -len(shape) <= axis < len(shape):
        raise ModelError(f"'{node.name}' has {values.size} scales along axis {axis} of shape "
                         f"{shape}; write its axis, or start from the float model")  # fmt: skip
    if block := node.attrs.get("block_size", 0):
        return values.repeat(block, axis).take(range(shape[axis]), axis)
    along = [1] * len(shape)
    along[axis] = -1
    return values.reshape(along)


def _all_nodes(graph: Graph) -> Iterator[Node]:
    yield from graph.nodes
    for subgraph in graph.subgraphs(recursive=True):
        yield from subgraph.nodes


def _read(node: Node, values: dict[str, Array | None]) -> Quantizer:
    before = node if node.op == fp4.DYNAMIC else dynamic_quantizer(node)
    if before is not None:
        scale, axis = _value(before.inputs[1], values), node.attrs.get("axis")
        return Quantizer(node, scale, None, "FLOAT4E2M1", axis, fp4.BLOCK, dynamic=True)
    scale = _scale(node.inputs[1], values)
    zero_point = None
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        zero_point = _value(node.inputs[2], values)
    axis, block = node.attrs.get("axis"), int(node.attrs.get("block_size", 0))
    return Quantizer(node, scale, zero_point, _code_type(node, zero_point), axis, block)


def _scale(tensor: Tensor, values: dict[str, Array | None]) -> Array | None:
    """The values of a scale, or those of FP8 scales of blocks, dequantized."""
    node = producer(tensor)
    if node is not None and gives_scales(node):
        parts = [_value(t, values) for t in node.inputs if not t.is_empty()]
        if parts[0] is None or parts[1] is None:
            return None
        zero = parts[2] if len(parts) > 2 else None
        return dequantized(node, parts[0], parts[1], zero).astype(parts[1].dtype)
    return _value(tensor, values)


def _code_type(node: Node, zero_point: Array | None) -> str | None:
    if node.op == "DequantizeLinear" and (known := _declared(node.inputs[0])):
        return known
    if zero_point is not None:
        return type_name(zero_point.dtype)
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        return _declared(node.inputs[2])
    if node.op == "QuantizeLinear":
        return type_name(node.attrs.get("output_dtype", 0) or onnx.TensorProto.UINT8)
    before = producer(node.inputs[0])
    if before is None or before.op != "QuantizeLinear":
        return None
    return _read(before, {}).dtype


def _value(tensor: Tensor, known: dict[str, Array | None]) -> Array | None:
    """The values of a tensor that depends on constants alone; None for any other."""
    if tensor.name in known:
        return known[tensor.name]
    known[tensor.name] = found = constant_of(tensor)
    node = producer(tensor)
    if found is None and node is not None and is_standard(node) and not list(node.subgraphs()):
        given = [None if t.is_empty() else _value(t, known) for t in node.inputs]
        if all(v is not None for v in given):
            known[tensor.name] = _evaluate(node, given, tensor)
    return known[tensor.name]


def _evaluate(node: Node, given: list[Array | None], tensor: Tensor) -> Array | None:
    from onnx.reference import ReferenceEvaluator

    try:
        proto = OnnxExporter.export_node(node)
        feeds = dict(zip(proto.input, given, strict=True))
        results = ReferenceEvaluator(proto).run(None, feeds)
    except Exception:  # whatever the reference implementation raises: then it is not known
        return None
    place = [t is tensor for t in node.outputs].index(True)
    return np.asarray(list(results)[place])


def _types(graph: Graph, nodes: tuple[Node, ...], by_node: dict[int, Quantizer]) -> dict[str, str]:
    """Every tensor's type: declared, or that of the first input with a type."""
    types = {t.name: d for t in graph.inputs if (d := _declared(t))}
    for node in nodes:
        for tensor in node.inputs:
            if not tensor.inputs and tensor.name not in types and (d := _declared(tensor)):
                types[tensor.name] = d
        for tensor in node.outputs:
            if found := _written(node, tensor, types, by_node):
                types[tensor.name] = found
    return types


def _written(
    node: Node, tensor: Tensor, types: dict[str, str], by_node: dict[int, Quantizer]
) -> str | None:
    if node.op == fp4.DYNAMIC:
        return "FLOAT4E2M1" if tensor is node.outputs[0] else "FLOAT8E4M3FN"
    if node.op == "QuantizeLinear" and id(node) in by_node:
        return by_node[id(node)].dtype
    if node.op == "DequantizeLinear" and len(node.inputs) > 1:
        asked = type_name(node.attrs.get("output_dtype", 0))
        return asked or types.get(node.inputs[1].name)
    if node.op == "Cast":
        return type_name(node.attrs.get("to", 0))
    if node.op in TO_BOOL:
        return "BOOL"
    if node.op == "Constant":
        values = constant_of(tensor)
        return None if values is None else type_name(values.dtype)
    if declared := _declared(tensor):
        return declared
    read = [types.get(t.name) for t in node.inputs]
    return next((t for t in read if t in FLOATS), None)


def _declared(tensor: Tensor) -> str | None:
    return None if tensor.dtype is None else type_name(tensor.dtype)


def type_name(dtype: Any) -> str | None:
    """The ONNX name of a NumPy type or an ONNX type number; None for 0 and for the unknown."""
    try:
        number = (
            dtype
            if isinstance(dtype, int)
            else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        )
        name = onnx.TensorProto.DataType.Name(int(number))
    except (KeyError, TypeError, ValueError):
        return None
    return None if name == "UNDEFINED" else name
