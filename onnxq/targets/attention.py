"""Attention, softmax(q k^T) v: both products in INT8, or neither.

TensorRT fuses the two products, the Softmax and the Q/DQ of the projection behind them into one
kernel. With one of them float the kernel falls apart and the scores are written out.
"""

from __future__ import annotations

from collections.abc import Collection

from onnxq.model.flow import SAME, same_source
from onnxq.model.graph import Graph, Node, Tensor, constant_of, producer
from onnxq.targets.options import weight_input

_SCALE_AND_MASK = ("Add", "Mul", "Div", "Sub", "Where", "Cast")


def broken_attention(graph: Graph, quantized: Collection[str]) -> dict[str, str]:
    """Quantized products of an attention that has a float part: name -> the float part's name."""
    broken: dict[str, str] = {}
    for node in graph.nodes:
        scores = _scores(node)
        if scores is None:
            continue
        parts = [scores, node, *_projections(node)]
        missing = [p.name for p in parts if p.name not in quantized]
        if missing:
            broken |= {p.name: missing[0] for p in (scores, node) if p.name in quantized}
    return broken


def merged_projections(graph: Graph) -> list[Node]:
    """Products with a weight from which q, k and v of one attention all come.

    TensorRT splits such a product in three. It splits float weights with Q/DQ behind them; of codes
    with a scale per channel it was seen to make float again, and to multiply in float.
    """
    found: dict[str, Node] = {}
    for node in graph.nodes:
        scores = _scores(node)
        if scores is not None:
            of_q, of_k, of_v = map(_weighted_before, (*scores.inputs[:2], node.inputs[1]))
            found |= {name: of_q[name] for name in of_q.keys() & of_k.keys() & of_v.keys()}
    return list(found.values())


def _weighted_before(tensor: Tensor) -> dict[str, Node]:
    """The nearest products with a weight that `tensor` comes from, by name."""
    found: dict[str, Node] = {}
    waiting, seen = [tensor], set[int]()
    while waiting:
        node = producer(waiting.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op in ("MatMul", "Gemm") and weight_input(node) is not None:
            found[node.name] = node
        else:
            waiting += node.inputs
    return found


def _scores(node: Node) -> Node | None:
    """The product q k^T whose softmax is the left operand of the product `node`."""
    if node.op != "MatMul" or any(constant_of(t) is not None for t in node.inputs):
        return None
    softmax = producer(same_source(node.inputs[0]))
    if softmax is None or softmax.op != "Softmax":
        return None
    before = producer(softmax.inputs[0])
    while before is not None and (before.op in _SCALE_AND_MASK or before.op in SAME):
        computed = [p for t in before.inputs if (p := producer(t)) is not None]
        before = next((p for p in computed if p.op in ("MatMul", *_SCALE_AND_MASK, *SAME)), None)
    return before if before is not None and before.op == "MatMul" else None


def _projections(node: Node) -> list[Node]:
    """Products with a weight that read the output of `node` through ops that only move data."""
    found, waiting = [], list(node.outputs)
    while waiting:
        tensor = waiting.pop()
        for reader in tensor.outputs:
            if reader.op in SAME:
                waiting += reader.outputs
            elif reader.op in ("MatMul", "Gemm"):
                found.append(reader)
    return found
