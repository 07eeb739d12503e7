"""What running a graph takes, counted without running it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from onnxq.model.geometry import geometry_of
from onnxq.model.graph import WEIGHTED, Graph, Node, constant_of, is_standard
from onnxq.run.segments import Shapes

VALUE = 8  # multiply-accumulates that take as long as writing a value, about
# Ops whose work these shapes do not tell: bodies that repeat, gates, sums of any form.
UNTOLD = ("Attention", "Einsum", "GRU", "GroupQueryAttention", "If", "LSTM", "Loop", "RNN", "Scan")


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


def work(graph: Graph, shapes: Shapes) -> int | None:
    """What running the graph takes where its tensors have these shapes, in multiply-accumulates:
    those of weighted ops, and VALUE for each value that a node writes; None where it cannot be
    told."""
    total = 0
    for node in graph.nodes:
        written = [shapes.get(t.name) for t in node.outputs if t.name]
        if not is_standard(node) or node.op in UNTOLD or None in written:
            return None
        total += VALUE * sum(prod(shape) for shape in written if shape is not None)
        if node.op in WEIGHTED:
            counted = macs(node, shapes)
            if not counted and all(written):
                return None
            total += counted
    return total


def _shapes(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[int, ...]] | None:
    known = []
    for tensor in (*node.inputs[:2], node.outputs[0]):
        values = constant_of(tensor)
        shape = shapes.get(tensor.name) if values is None else values.shape
        if not shape:
            return None
        known.append(tuple(shape))
    return known
