"""Attention, softmax(q k^T) v: both products in INT8, or neither.

TensorRT fuses the two products, the Softmax and the Q/DQ of the projection behind them into one
kernel. With one of them float the kernel falls apart and the scores are written out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from math import prod

from onnxq.model.flow import SAME, same_source
from onnxq.model.graph import WEIGHTED, Graph, Node, Tensor, behind, constant_of, producer

QDQ = ("QuantizeLinear", "DequantizeLinear")


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
    """Products with a weight that a chain of two computed products, (a b) c, reads in three places.

    Such are q, k and v of an attention, whatever stands between q k^T and v; softmax or none.
    TensorRT-RTX splits such a product in three. It splits float weights with Q/DQ behind them; of
    codes with a scale per channel it was seen to make float again, and to multiply in float.
    """
    found: dict[str, Node] = {}
    for node in filter(_is_computed, graph.nodes):
        for operand, other in zip(node.inputs, node.inputs[::-1], strict=True):
            for inner in filter(_is_computed, _products_before(operand, through=_has_weight)):
                parts = (*inner.inputs, other)
                of_a, of_b, of_c = map(_weighted_before, parts)
                all_three = (of_a[name] for name in of_a.keys() & of_b.keys() & of_c.keys())
                found |= {n.name: n for n in all_three if _are_thirds(parts, n.outputs[0])}
    return list(found.values())


def _are_thirds(parts: Sequence[Tensor], whole: Tensor) -> bool:
    """Whether each part is a third of the whole, by the axes whose lengths are known; a product of
    other parts, two, four or unlike, is not split."""
    if any(t.shape is None for t in (*parts, whole)):
        return True
    sizes = [prod(d for d in t.shape if isinstance(d, int)) for t in (whole, *parts)]
    return sizes[1:] == [sizes[0] / len(parts)] * len(parts)


def _is_weight(tensor: Tensor) -> bool:
    """Whether a tensor is a constant, or what Q/DQ make of one."""
    return constant_of(behind(tensor, QDQ)) is not None


def _is_computed(node: Node) -> bool:
    """Whether `node` is a product of two computed matrices."""
    return node.op == "MatMul" and not any(map(_is_weight, node.inputs))


def _has_weight(node: Node) -> bool:
    return not _is_computed(node)


def _weighted_before(tensor: Tensor) -> dict[str, Node]:
    """The nearest products with a weight that `tensor` comes from, by name."""
    met = filter(_has_weight, _products_before(tensor, through=_is_computed))
    return {n.name: n for n in met if n.op in ("MatMul", "Gemm")}


def _products_before(
    tensor: Tensor, through: Callable[[Node], bool] = lambda node: False
) -> list[Node]:
    """The products that `tensor` comes from, nearest first; what stands before them is looked at
    where `through` says so."""
    found, waiting, seen = [], deque([tensor]), set[int]()
    while waiting:
        node = producer(waiting.popleft())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op in WEIGHTED:
            found.append(node)
        if node.op not in WEIGHTED or through(node):
            waiting += node.inputs
    return found


def _scores(node: Node) -> Node | None:
    """The product q k^T whose softmax is the left operand of the product `node`; where heads are
    mixed between them, the product that mixes them."""
    if not _is_computed(node):
        return None
    softmax = producer(same_source(node.inputs[0]))
    if softmax is None or softmax.op != "Softmax":
        return None
    met = [n for n in _products_before(softmax.inputs[0]) if n.op == "MatMul"]
    return next(filter(_is_computed, met), next(iter(met), None))


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
