"""Which outputs are rows of a detector in the order of a TopK, and what is where in them.

Found from the graph: see `ranked`, which says what is done with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnxq.judge.heads import BOX, Known
from onnxq.judge.lengths import stand_ins, varying
from onnxq.judge.ranked import Column, Ranked, Rows, outputs_in
from onnxq.model.flow import SAME
from onnxq.model.graph import Graph, Node, Tensor, constant_of, producer
from onnxq.model.other_types import Other
from onnxq.run.segments import reads


def ranked_among(graph: Graph, tensors: Sequence[Tensor]) -> list[Ranked]:
    """What `ranked_of` finds among tensors of a graph, by the shapes that it says."""
    if not any(node.op == "TopK" for node in graph.nodes):
        return []
    shapes = {name: t.shape for name, t in graph.tensors().items() if t.shape is not None}
    found = ranked_of(tensors, shapes)
    return [] if found is None else [found]


def _behind_topk(tensor: Tensor) -> bool:
    """Whether a tensor is computed from what a TopK picked."""
    return any(True for _ in _nearest(tensor))


def ranked_outputs(graph: Graph, outputs: Sequence[Tensor] | None = None) -> list[Ranked]:
    """Outputs, or of `outputs` those, whose rows are matched before they are compared, because what
    stands in for them is in the order of a TopK itself."""
    asked = graph.outputs if outputs is None else outputs
    if not (groups := ranked_among(graph, asked)):
        return []
    unlike, named = varying(graph), {t.name: t for t in asked}

    def moved(name: str) -> bool:
        tensor = named[name]
        standing = stand_ins(tensor, unlike) if name in unlike else [tensor]
        return any(map(_behind_topk, standing))

    return [group for group in groups if any(map(moved, outputs_in([group])))]


def ranked_of(tensors: Sequence[Tensor], shapes: Known) -> Ranked | None:
    """What of the tensors is the rows of a detector in the order of a TopK; None for nothing."""
    found = {t.name: r for t in tensors if (r := _rows(t, shapes)) is not None}
    there = [t for t in tensors if t.name in found]
    sizes = {t.name: _numbers(found[t.name], shapes[t.name]) for t in there}
    boxes = [t for t in there if _is_float(t) and sizes[t.name] == BOX]
    if len(boxes) == 1:
        return _apart(boxes[0], [t for t in there if t is not boxes[0]], found, sizes)
    whole = [t for t in there if _is_float(t) and sizes[t.name] > BOX + 1]
    if boxes or len(whole) != 1:
        return None
    name, count = whole[0].name, sizes[whole[0].name]
    place = Column(name, 0, BOX)
    label = _label_column(whole[0]) if count == BOX + 2 else None
    if label is None:
        return Ranked((found[name],), place, Column(name, BOX, count))
    score = 2 * BOX + 1 - label
    return Ranked((found[name],), place, Column(name, score, score + 1),
                  Column(name, label, label + 1))  # fmt: skip


def _numbers(rows: Rows, shape: Sequence[int | str | None]) -> int:
    """How many numbers a row has; 0 where that is not known."""
    count = 1 if rows.numbers is None else shape[rows.numbers]
    return count if isinstance(count, int) else 0


def _apart(
    boxes: Tensor, others: Sequence[Tensor], found: Mapping[str, Rows], sizes: Mapping[str, int]
) -> Ranked | None:
    """Boxes, scores and classes as outputs of their own."""
    one = [t for t in others if sizes[t.name] == 1]
    labels = [t for t in one if _is_label(t)]
    scores = [t for t in others if t not in labels and _is_float(t)]
    if len(scores) != 1 or len(labels) > 1 or sizes[scores[0].name] <= (not labels):
        return None
    size = sizes[scores[0].name]
    rows = tuple(found[t.name] for t in (boxes, *scores, *labels))
    label = Column(labels[0].name, 0, 1) if labels else None
    return Ranked(rows, Column(boxes.name, 0, BOX), Column(scores[0].name, 0, size), label)


def _rows(tensor: Tensor, shapes: Known) -> Rows | None:
    """The rows of a tensor that is computed from what a TopK picked; None for another."""
    shape = shapes.get(tensor.name)
    if shape is None or isinstance(tensor, Other):
        return None
    counts = [_count(node, shapes) for node in _nearest(tensor)]
    lengths = {*counts, sum(c for c in counts if c)} - {None, 0, 1}
    axis = next((i for i, d in enumerate(shape) if d in lengths), None)
    if axis is None:
        return None
    if axis + 2 == len(shape):
        return Rows(tensor.name, axis, axis + 1)
    if axis + 1 != len(shape):
        return None
    return Rows(tensor.name, axis, axis - 1 if len(shape) == 3 else None)


def _nearest(tensor: Tensor) -> Iterator[Node]:
    """The TopKs that a tensor is computed from with no other between."""
    waiting, seen = [tensor], set[int]()
    while waiting:
        node = producer(waiting.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op == "TopK":
            yield node
        else:
            waiting += reads(node)


def _count(node: Node, shapes: Known) -> int | None:
    """How many a TopK picks."""
    given = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is not None and given.size == 1:
        return int(np.ravel(given)[0])
    shape = shapes.get(node.outputs[0].name)
    length = shape[int(node.attrs.get("axis", -1))] if shape else node.attrs.get("k")
    return length if isinstance(length, int) else None


def _label_column(tensor: Tensor) -> int | None:
    """Which of six numbers a row, the fifth or the sixth, is a class: the one that was an integer;
    None where none was."""
    node = producer(tensor)
    while node is not None and node.op in (*SAME, "Cast"):
        node = producer(node.inputs[0])
    if node is None or node.op != "Concat":
        return None
    last = [t for t in node.inputs if constant_of(t) is None][-2:]
    found = [k for k, t in enumerate(last) if _is_label(t)]
    return BOX + found[0] if len(found) == 1 and len(last) == 2 else None


def _is_label(tensor: Tensor) -> bool:
    """Whether a tensor is of integers, or was before a Cast."""
    while not _is_integer(tensor):
        node = producer(tensor)
        if node is None or node.op not in (*SAME, "Cast", "Floor", "Gather", "GatherElements"):
            return False
        tensor = node.inputs[0]
    return True


def _kind(tensor: Tensor) -> str:
    kind = tensor.dtype
    return "" if kind is None or isinstance(kind, int | Other) else np.dtype(kind).kind


def _is_float(tensor: Tensor) -> bool:
    return _kind(tensor) in ("f", "")


def _is_integer(tensor: Tensor) -> bool:
    return _kind(tensor) in ("i", "u")
