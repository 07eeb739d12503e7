"""Attention, softmax(q k^T) v: both products in INT8, or neither.

TensorRT fuses the two products, the Softmax and the Q/DQ of the projection behind them into one
kernel. With one of them float the kernel falls apart and the scores are written out.
"""

from __future__ import annotations

from collections.abc import Collection

from onnxq.graph import Graph, Node, constant_of, producer
from onnxq.targets.flow import SAME, same_source

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
