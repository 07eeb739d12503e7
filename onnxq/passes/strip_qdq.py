"""Take Q/DQ out again: the float model that a quantized model stands for.

    x -> Q -> DQ -> y                y becomes x
    INT8 initializer -> DQ -> y      y becomes a float initializer, codes times scale

A weight does not get back what rounding took; quantize from the float model where you have it.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.errors import ModelError
from onnxq.graph import Graph, Node, Tensor, constant_of, is_output, producer

QUANTIZED_OPS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
    "ConvInteger", "MatMulInteger", "QLinearAdd", "QGemm",
})  # fmt: skip


def quantized_nodes(graph: Graph) -> list[Node]:
    """Nodes that show that a graph is quantized already."""
    return [n for n in graph.nodes if n.op in QUANTIZED_OPS]


def strip_qdq(graph: Graph) -> int:
    """Remove every Q/DQ in place; returns how many DequantizeLinear went.

    Raises ModelError for integer ops that are not Q/DQ, and for scales that are not constant.
    """
    for node in quantized_nodes(graph):
        if node.op not in ("QuantizeLinear", "DequantizeLinear"):
            raise ModelError(f"'{node.name}' is a {node.op}, which has no float form; start from "
                             "the float model")  # fmt: skip
    count = 0
    for node in [n for n in graph.nodes if n.op == "DequantizeLinear"]:
        before = producer(node.inputs[0])
        if before is not None and before.op == "QuantizeLinear":
            float_tensor = before.inputs[0]
        else:
            float_tensor = _dequantized(node)
        _replace(graph, node.outputs[0], float_tensor)
        node.outputs.clear()
        count += 1
    graph.cleanup().toposort()
    return count


def _dequantized(node: Node) -> Tensor:
    values = [constant_of(t) for t in node.inputs]
    if values[0] is None or values[1] is None:
        raise ModelError(f"'{node.name}' dequantizes a tensor that is not constant and has no "
                         "QuantizeLinear before it; start from the float model")  # fmt: skip
    codes, scale = values[0].astype(np.float32), values[1].astype(np.float32)
    zero = values[2].astype(np.float32) if len(values) > 2 and values[2] is not None else 0.0
    if scale.size > 1:
        shape = [1] * codes.ndim
        shape[node.attrs.get("axis", 1)] = -1
        scale, zero = scale.reshape(shape), np.reshape(zero, shape) if np.size(zero) > 1 else zero
    return gs.Constant(f"{node.outputs[0].name}_float", (codes - zero) * scale)


def _replace(graph: Graph, old: Tensor, new: Tensor) -> None:
    if is_output(graph, old):
        raise ModelError(f"output '{old.name}' is dequantized in the graph; start from the float "
                         "model")  # fmt: skip
    for reader in list(old.outputs):
        reader.inputs = [new if t is old else t for t in reader.inputs]
