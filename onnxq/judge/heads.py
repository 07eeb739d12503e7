"""What the channels of a detector's output are, read off what wrote them.

A head joins levels along one axis and has its channels along another, which its levels split, work
on and join again. So the channels of an output are followed back to where they come from,

    Concat along the channels      one group behind the other
    Concat along another axis      levels, whose groups have to be the same
    Slice, Split                   some of the channels
    Transpose, Reshape             the same channels along another axis
    Sigmoid, Exp, ...              the same channels, marked with the op
    Add, Mul, Pow of a constant    likewise

and a group has a name where its place and its marks leave no doubt: four channels, or two and two,
are `boxes`, one that a Sigmoid wrote between these and others that one wrote is `objectness`, those
are `scores`. Where one Sigmoid wrote all behind the boxes, the first is `objectness` if boxes are
centers by a Sigmoid and sizes by a Pow or Exp, as YOLOv3 to v7 have them; those without objectness
have other boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import numpy as np

from onnxq.model.flow import same_source
from onnxq.model.graph import Node, Tensor, constant_of, producer

Known = Mapping[str, Sequence[int | str | None]]  # tensor -> its shape, as far as it is known
BOX = 4  # numbers of a box
BOXES, OBJECTNESS, SCORES = "boxes", "objectness", "scores"
BY_CONSTANTS = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")
KEEPS = ("Identity", "Cast", "Clip", "Dropout")  # values, as far as their meaning goes
UNARY = (*KEEPS, "Relu", "Exp", "Sigmoid", "Neg", "Sqrt", "Tanh", "Softplus")
SAME = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")  # what keeps the order of the values
MOST = 200  # tensors that are followed back


@dataclass(frozen=True)
class Group:
    """Channels `start` to `stop` that were written alike. marks: by which ops, on their values."""

    start: int
    stop: int
    marks: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def is_score(self) -> bool:
        """Whether it is what a Sigmoid or Softmax wrote."""
        return self.marks in ({"Sigmoid"}, {"Softmax"})


Groups = list[Group]
Seen = dict[tuple[str, int], Groups]


def detector(output: Tensor, shapes: Known) -> tuple[int, dict[str, tuple[int, int]]] | None:
    """(the axis of the channels, name -> its first channel and the one behind its last) of an
    output with boxes and scores; None for one whose channels cannot be told."""
    shape = shapes.get(output.name)
    for axis in range(1, len(shape or ())):
        if shape is not None and isinstance(shape[axis], int):
            names = named(groups_of(output, axis, shapes))
            if names:
                return axis, names
    return None


def named(groups: Groups) -> dict[str, tuple[int, int]]:
    """The groups by name, where they are those of a detector."""
    boxes, rest = _boxes(groups)
    if not boxes or not rest or not all(group.is_score for group in rest):
        return {}
    ends = {BOXES: (boxes[0].start, boxes[-1].stop)}
    first, end = rest[0], rest[-1].stop
    if len(rest) == 2 and first.size == 1:
        return ends | {OBJECTNESS: (first.start, first.stop), SCORES: (first.stop, end)}
    if len(rest) != 1:
        return {}
    if _by_anchors(boxes) and first.size > 1:
        middle = first.start + 1
        return ends | {OBJECTNESS: (first.start, middle), SCORES: (middle, end)}
    return {} if boxes[0].marks & {"Sigmoid"} else ends | {SCORES: (first.start, end)}


def _boxes(groups: Groups) -> tuple[Groups, Groups]:
    """The first groups, of four channels in all; those behind them."""
    for count, sizes in ((1, [BOX]), (2, [2, 2])):
        if [group.size for group in groups[:count]] == sizes:
            return groups[:count], groups[count:]
    return [], groups


def _by_anchors(boxes: Groups) -> bool:
    """Whether boxes are centers by a Sigmoid and sizes by a power."""
    if len(boxes) != 2:
        return False
    centers, sizes = (group.marks for group in boxes)
    return "Sigmoid" in centers and not centers & {"Exp", "Pow"} and bool(sizes & {"Exp", "Pow"})


def groups_of(tensor: Tensor, axis: int, shapes: Known, seen: Seen | None = None) -> Groups:
    """The channels along an axis by what wrote them; one group where that cannot be told.

    seen: what is known of tensors so far, by name and axis.
    """
    seen, key = {} if seen is None else seen, (tensor.name, axis)
    size = length_of(tensor, axis, shapes)
    node = producer(tensor)
    if key in seen or size is None:
        return seen.get(key, [])
    seen[key] = [Group(0, size)]
    if node is not None and len(seen) < MOST:
        found = _followed(node, tensor, axis, shapes, seen)
        if found and found[0].start == 0 and found[-1].stop == size:
            seen[key] = found
    return seen[key]


def _followed(node: Node, tensor: Tensor, axis: int, shapes: Known, seen: Seen) -> Groups:
    """The groups of what a node writes; none where it is not known what it does to them."""
    if node.op == "Concat":
        return _joined(node, axis, shapes, seen)
    if node.op in ("Slice", "Split"):
        return _cut(node, tensor, axis, shapes, seen)
    if node.op == "Transpose":
        perm = node.attrs.get("perm")
        return [] if perm is None else groups_of(node.inputs[0], perm[axis], shapes, seen)
    if node.op in SAME:
        before = _unmoved(node.inputs[0], tensor, axis, shapes)
        return [] if before is None else groups_of(node.inputs[0], before, shapes, seen)
    data = _data(node)
    rank = len(shapes.get(tensor.name, ()))
    if data is None or len(shapes.get(data.name, ())) != rank:
        return []
    if node.op == "Softmax" and int(node.attrs.get("axis", -1)) % rank != axis:
        return []
    mark = set() if node.op in KEEPS else {"Pow" if node.inputs[1:] == [data] else node.op}
    return [replace(g, marks=g.marks | mark) for g in groups_of(data, axis, shapes, seen)]


def _data(node: Node) -> Tensor | None:
    """The one tensor whose values an elementwise op works on; None for another op."""
    if node.op in UNARY or node.op == "Softmax":
        return node.inputs[0]
    if node.op not in BY_CONSTANTS:
        return None
    computed = [t for t in node.inputs if constant_of(t) is None]
    alike = all(t is computed[0] for t in computed)  # a square, written as a product
    return computed[0] if computed and alike and computed[0].inputs else None


def _joined(node: Node, axis: int, shapes: Known, seen: Seen) -> Groups:
    """The groups of a Concat: one behind the other, or those that all levels have."""
    ranks = {len(shapes[t.name]) for t in node.inputs if t.name in shapes}
    each = [groups_of(t, axis, shapes, seen) for t in node.inputs]
    if len(ranks) != 1 or not all(each):
        return []
    if int(node.attrs["axis"]) % ranks.pop() == axis:
        found: Groups = []
        for groups in each:
            at = found[-1].stop if found else 0
            found += [replace(g, start=g.start + at, stop=g.stop + at) for g in groups]
        return found
    first, *others = each
    return first if all(groups == first for groups in others) else []


def _cut(node: Node, tensor: Tensor, axis: int, shapes: Known, seen: Seen) -> Groups:
    """The groups of some of the channels, or of all channels at some places."""
    data = node.inputs[0]
    rank = len(shapes.get(data.name, ()))
    if not rank:
        return []
    ends = _sliced(node, rank) if node.op == "Slice" else _split(node, tensor, rank, shapes)
    if ends is None:
        return []
    along, start, stop = ends
    groups = groups_of(data, axis, shapes, seen)
    if along != axis:
        return groups
    inside = [(max(g.start, start), min(g.stop, stop), g.marks) for g in groups]
    return [Group(a - start, b - start, marks) for a, b, marks in inside if a < b]


def _sliced(node: Node, rank: int) -> tuple[int, int, int] | None:
    """(axis, start, stop) of a Slice along one axis, by constants, in steps of one."""
    values = [constant_of(t) for t in node.inputs[1:]]
    if len(values) < 3 or any(v is None or v.size != 1 for v in values):
        return None
    start, stop, axis, *step = (int(np.ravel(v)[0]) for v in values if v is not None)
    if step not in ([], [1]) or start < 0 or stop < 0:
        return None
    return axis % rank, start, stop


def _split(node: Node, tensor: Tensor, rank: int, shapes: Known) -> tuple[int, int, int] | None:
    """(axis, start, stop) of an output of a Split."""
    axis = int(node.attrs.get("axis", 0)) % rank
    sizes = [length_of(t, axis, shapes) for t in node.outputs]
    at = 0
    for size, out in zip(sizes, node.outputs, strict=True):
        if size is None:
            return None
        if out is tensor:
            return axis, at, at + size
        at += size
    return None


def _unmoved(before: Tensor, after: Tensor, axis: int, shapes: Known) -> int | None:
    """The axis that one of a tensor was before a Reshape: of the same length, with as much behind
    it; None where it was none of its own, or where lengths are not known."""
    shape, old = shapes.get(after.name, ()), shapes.get(before.name, ())
    behind = shape[axis + 1 :]
    if not all(isinstance(d, int) for d in behind):
        return None
    inner = prod(d for d in behind if isinstance(d, int))
    for k, length in enumerate(old):
        rest = old[k + 1 :]
        if length != shape[axis] or not all(isinstance(d, int) for d in rest):
            continue
        if prod(d for d in rest if isinstance(d, int)) == inner:
            return k
    return None


def called(pieces: Sequence[Tensor], axis: int, shapes: Known) -> list[str]:
    """What the pieces that a Concat joins are called; empty for those that go by their place."""
    lengths = [length_of(t, axis, shapes) or 0 for t in pieces]
    kinds = [SCORES if is_scores(t) else BOXES if length == BOX else ""
             for t, length in zip(pieces, lengths, strict=True)]  # fmt: skip
    if kinds.count(BOXES) == 1 and SCORES in kinds:
        return [kind if kinds.count(kind) == 1 else "" for kind in kinds]
    if _are_levels(lengths) and all(_of_places(t, shapes) for t in pieces):
        return [f"level {k + 1}" for k in range(len(pieces))]
    return [""] * len(pieces)


def is_scores(tensor: Tensor) -> bool:
    """Whether Sigmoid or Softmax wrote it, if only moved since."""
    node = producer(same_source(tensor))
    return node is not None and node.op in ("Sigmoid", "Softmax")


def _are_levels(lengths: Sequence[int]) -> bool:
    """Whether what a Concat joins may be levels of a pyramid by the number of their places: each
    has about a quarter of those of the one before it, or all the other way round."""
    if len(lengths) < 2 or min(lengths) < 1:
        return False
    steps = [a / b for a, b in pairwise(lengths)]
    return all(3 < step < 5 for step in steps) or all(3 < 1 / step < 5 for step in steps)


def _of_places(tensor: Tensor, shapes: Known) -> bool:
    """Whether rows and columns of a map were made one axis of the tensor."""
    for _ in range(MOST):
        node = producer(tensor)
        if node is None:
            return False
        before = node.inputs[0] if node.op in (*SAME, "Transpose", "Concat") else _data(node)
        if before is None:
            return False
        ranks = [len(shapes.get(t.name, ())) for t in (before, tensor)]
        if node.op in SAME and ranks[0] > ranks[1] > 0:
            return True
        tensor = before
    return False


def length_of(tensor: Tensor, axis: int, shapes: Known) -> int | None:
    """The length of a tensor along an axis; None where it is not known."""
    shape = shapes.get(tensor.name)
    length = shape[axis] if shape is not None and axis < len(shape) else None
    return length if isinstance(length, int) else None
