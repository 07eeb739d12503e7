"""Residual Adds: the skip branch reads the Q/DQ that its tensor has anyway.

    s -> Q -> DQ -> Conv -> ... -> Conv -> [activation] -> y          Add(y, s)   float copy of s
    s -> Q -> DQ -> Conv -> ... -> Conv -> [activation] -> y          Add(y, DQ)  INT8 alone

The kernel that ends the Conv computes the Add, so what it adds is read from memory: as INT8 it is
written once, and read in a quarter of the bytes. A tensor that nothing else reads quantized stays
float: Q/DQ of its own would add a rounding and save nothing (projection shortcuts, n-ary sums).
Behind a MatMul it stays float too: there it is the stream of a transformer, which bears no rounding
(2.8 dB lost in MiniLM for 1.7% of the bytes).
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from onnxq.model.flow import SAME, same_source, sole_consumer
from onnxq.model.graph import Graph, Node, Tensor, constant_of, producer
from onnxq.spec import Edge, QuantSpec

ACTIVATIONS = ("Relu", "Clip", "HardSwish", "LeakyRelu")  # of one tensor, in a Conv's tail
GATES = ("Sigmoid", "HardSigmoid")
MOVES = (*SAME, "Slice", "Pad", "Concat")  # of a shortcut without weights


def skip_edges(
    graph: Graph, quantized: Mapping[str, QuantSpec], convs: Container[str]
) -> dict[str, Edge]:
    """Residual Adds by name, each with the input to quantize: of the Add, or of the first op that
    moves the skip tensor on its way there.

    quantized: tensors that are quantized otherwise. convs: names of the quantized Convs.
    """
    order = {node.name: i for i, node in enumerate(graph.nodes)}
    found = {}
    for node in graph.nodes:
        if node.op != "Add" or any(constant_of(t) is not None for t in node.inputs):
            continue
        shapes = [t.shape for t in node.inputs]
        if node.inputs[0] is node.inputs[1] or len(shapes[0] or ()) != len(shapes[1] or ()):
            continue
        ends = [_conv_before(graph, t, convs) for t in node.inputs]
        places = [-1 if end is None else order[end.name] for end in ends]
        if max(places) < 0:
            continue
        skip = 1 - places.index(max(places))
        if (edge := _quantizable(Edge(node.name, skip), node.inputs[skip], quantized)) is not None:
            found[node.name] = edge
    return found


def _conv_before(graph: Graph, tensor: Tensor, convs: Container[str]) -> Node | None:
    """The quantized Conv whose kernel writes `tensor`: directly, or through an activation. None
    where another reader needs it too, or the Conv is float."""
    if sole_consumer(graph, tensor) is None:
        return None
    node = producer(tensor)
    while node is not None and node.name not in convs:
        node = _one_before(node)
    return node


def _one_before(node: Node) -> Node | None:
    """The op before an activation; None for any other op."""
    if node.op == "Mul":  # x * Sigmoid(x)
        for x, gate in (node.inputs, node.inputs[::-1]):
            before = producer(gate)
            if before is not None and before.op in GATES and before.inputs[0] is x:
                return producer(x) if len(x.outputs) == 2 else None
        return None
    x = node.inputs[0]
    return producer(x) if node.op in ACTIVATIONS and len(x.outputs) == 1 else None


def _quantizable(edge: Edge, tensor: Tensor, quantized: Mapping[str, QuantSpec]) -> Edge | None:
    """Where the skip branch meets a tensor that is quantized anyway: at `edge`, if only by ops that
    keep every value, else at the op behind that tensor."""
    if same_source(tensor).name in quantized:
        return edge
    while tensor.name not in quantized:
        node = producer(tensor)
        if node is None or node.op not in MOVES:
            return None
        data = [i for i, t in enumerate(node.inputs) if constant_of(t) is None]
        if len(data) != 1:
            return None
        edge, tensor = Edge(node.name, data[0]), node.inputs[data[0]]
    return edge
