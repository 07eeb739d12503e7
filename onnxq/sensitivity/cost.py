"""What a node holds and does: parameters and multiply-accumulates (MACs)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from onnxq.model.geometry import geometry_of
from onnxq.model.graph import WEIGHTED, Node, constant_of
from onnxq.run.segments import Shapes


def parameters(node: Node) -> int:
    """How many constant values the node reads: weights and bias."""
    values = (constant_of(t) for t in node.inputs)
    return sum(int(v.size) for v in values if v is not None)


def macs(node: Node, shapes: Shapes) -> int:
    """Multiply-accumulates of a Conv, ConvTranspose, Gemm or MatMul; 0 for any other op.

    `shapes` are those of the tensors; 0 also where one that is needed is not known.
    """
    if node.op not in WEIGHTED:
        return 0
    known = _shapes(node, shapes)
    if known is None:
        return 0
    a, b, out = known
    if node.op == "Conv":  # weight [out, in / group, kernel...]
        return prod(out) * prod(b[1:])
    if node.op == "ConvTranspose":  # weight [in, out / group, kernel...]
        return prod(a) * prod(b[1:])
    return prod(out) * a[geometry_of(node, 0).inputs]


def _shapes(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[int, ...]] | None:
    known = []
    for tensor in (*node.inputs[:2], node.outputs[0]):
        values = constant_of(tensor)
        shape = shapes.get(tensor.name) if values is None else values.shape
        if not shape:
            return None
        known.append(tuple(shape))
    return known
