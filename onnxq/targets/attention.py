"""Attention, softmax(q k^T) v: both products in INT8, or neither.

TensorRT fuses the two products, the Softmax and the Q/DQ of the projection behind them into one
kernel. With one of them float the kernel falls apart and the scores are written out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from math import prod

from onnxq.model.flow import SAME, same_source
from onnxq.model.graph import WEIGHTED, Graph, Node, Tensor, behind, constant_of, producer

QDQ = ("QuantizeLinear", "DequantizeLinear")
CUTS = ("Split", "Slice", "Gather")
HEADS_FIRST = [2, 0, 3, 1, 4]  # of [n, tokens, 3, heads, dim]


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
    TensorRT-RTX splits such a product in three where it moves the cut in front of it (`_is_split`).
    It splits float weights with Q/DQ behind them; of codes with a scale per channel it was seen to
    make float again, and to multiply in float.
    """
    found: dict[str, Node] = {}
    for node in filter(_is_computed, graph.nodes):
        for operand, other in zip(node.inputs, node.inputs[::-1], strict=True):
            for inner in filter(_is_computed, _products_before(operand, through=_has_weight)):
                parts = (*inner.inputs, other)
                of_a, of_b, of_c = map(_weighted_before, parts)
                all_three = (of_a[name] for name in of_a.keys() & of_b.keys() & of_c.keys())
                found |= {n.name: n for n in all_three if _is_split(n, parts)}
    return list(found.values())


def _is_split(product: Node, parts: Sequence[Tensor]) -> bool:
    """Whether TensorRT-RTX was seen to cut the weight of `product` where the graph cuts its output.

    It does where thirds are cut off the output as it is, or out of an axis of three that a Reshape
    gave it; where heads come first in between, only if parts are then moved and scaled, no more.
    """
    whole = product.outputs[0]
    if not _are_thirds(parts, whole):
        return False
    ways = {way for cut in _cuts(whole, by_heads=False) if (way := _way(*cut, whole)) is not None}
    return "direct" in ways or ("heads" in ways and all(_is_moved(p, product) for p in parts))


def _way(cut: Node, by_heads: bool, whole: Tensor) -> str | None:
    """How a node cuts what `whole` was moved to, if the engine can cut the weight so."""
    shape, axis = cut.inputs[0].shape, _axis(cut)
    if by_heads:
        return "heads" if axis == 0 else None
    if shape is None or axis is None or whole.shape is None:
        return "direct"
    is_last = axis in (-1, len(shape) - 1) and shape[-1] == whole.shape[-1]
    return "direct" if is_last or shape[axis] == 3 or not isinstance(shape[axis], int) else None


def _axis(cut: Node) -> int | None:
    """The axis that a Split, Slice or Gather cuts; None if unknown, or more than one."""
    if cut.op != "Slice":
        return int(cut.attrs.get("axis", 0))
    axes = constant_of(cut.inputs[3]) if len(cut.inputs) > 3 else None
    return int(axes.flat[0]) if axes is not None and axes.size == 1 else None


def _cuts(tensor: Tensor, by_heads: bool) -> Iterator[tuple[Node, bool]]:
    """The nodes that cut `tensor`, or what it is moved to, and whether heads come first there."""
    for reader in tensor.outputs:
        if reader.op in CUTS:
            yield reader, by_heads
        elif _source(reader) is not tensor or (by_heads and reader.op not in QDQ):
            continue
        elif reader.op != "Transpose" or list(reader.attrs.get("perm", ())) == HEADS_FIRST:
            yield from _cuts(reader.outputs[0], by_heads or reader.op == "Transpose")


def _source(node: Node) -> Tensor | None:
    """What a node moves, or adds a constant to, or scales by one; None of any other node."""
    if node.op in (*SAME, *QDQ):
        return node.inputs[0]
    computed = [t for t in node.inputs if not _is_weight(t)]
    return computed[0] if node.op in ("Add", "Mul", "Div") and len(computed) == 1 else None


def _is_moved(part: Tensor, product: Node) -> bool:
    """Whether nothing but cuts, moves and constants stands between a product and its part."""
    node = producer(part)
    while node is not None and node is not product:
        source = node.inputs[0] if node.op in CUTS else _source(node)
        node = producer(source) if source is not None else None
    return node is product


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
