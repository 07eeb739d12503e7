"""How often two models decide alike, which is what a user sees of them; by what an output says.

    output                                   a decision                        alike
    [batch, classes], or behind a Softmax    the top class of a row            the same class
    boxes and scores of a detector           a detection, after NMS or TopK    same class, IoU 0.5
    behind a Sigmoid                         what is above 0.5                 above 0.5 in both
    integers and booleans                    a value                           equal

    agreement = decisions that are alike / all decisions
    of detections and of what is above 0.5:   2 * alike / (those of one + those of the other)

Detections are scores above 0.25, of which NMS takes away what overlaps a better one of its class by
an IoU above 0.5. Of several outputs the worst counts. Embeddings, feature maps and distances decide
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import ModelError, PlanError
from onnxq.judge.heads import OBJECTNESS
from onnxq.judge.overlaps import corners
from onnxq.judge.overlaps import overlap as overlap
from onnxq.judge.parts import (
    BOXES,
    SCORES,
    Part,
    classifies,
    ranked_in,
    slices_of,
    written_outputs,
)
from onnxq.judge.ranked import CONFIDENT, Ranked, outputs_in
from onnxq.model.flow import same_source
from onnxq.model.graph import Graph, Tensor, producer
from onnxq.model.other_types import Other

OVERLAP, MOST = 0.5, 300  # IoU, detections of an image
ABOVE = 0.5
Outputs = Mapping[str, Array]
Counts = tuple[int, int]  # alike, of how many


@dataclass(frozen=True)
class Decision:
    """What some of the outputs decide. called: what is said of it. made: the decisions of a sample,
    small enough to be kept. alike: how many of two samples' decisions are alike, of how many."""

    called: str
    made: Callable[[Outputs], Array]
    alike: Callable[[Array, Array], Counts]


@dataclass(frozen=True)
class Decided:
    """The decisions of a model over samples, to hold others against."""

    of: Sequence[Decision]
    each: Sequence[Sequence[Array]]

    @staticmethod
    def by(graph: Graph, outputs: Iterable[Outputs], only: Sequence[str] = ()) -> Decided:
        """What a float graph's outputs, or those named `only`, decide; raises PlanError where they
        decide nothing."""
        of = decisions_of(graph, only)
        return Decided(of, [[d.made(row) for d in of] for row in outputs])

    def agreement(self, outputs: Iterable[Outputs]) -> float:
        """The share of decisions that another model makes alike, 0 to 1, of the worst output.

        Raises ModelError where there is nothing to decide in any sample, or lengths differ.
        """
        counts = np.zeros((len(self.of), 2), np.int64)
        for ref, row in zip(self.each, outputs, strict=True):
            for k, decision in enumerate(self.of):
                counts[k] += decision.alike(ref[k], decision.made(row))
        told = counts[counts[:, 1] > 0]
        if not len(told):
            raise ModelError(
                f"no sample shows anything to decide ({', '.join(d.called for d in self.of)}); "
                "give samples that do, or --min-sqnr"
            )
        return float((told[:, 0] / told[:, 1]).min())


def decisions_of(graph: Graph, only: Sequence[str] = ()) -> list[Decision]:
    """What a graph's outputs, or those named `only`, decide; raises PlanError for nothing."""
    written = written_outputs(graph, only)
    parts = [p for p in slices_of(graph) if not only or p.output in only]
    found = [_picked(r) for r in ranked_in(parts)] or _detections(parts)
    boxed = {p.output for p in parts if p.called.endswith((BOXES, SCORES))} if found else set()
    boxed |= set(outputs_in(ranked_in(parts)))
    softmax = {p.output: p.classes for p in parts if p.classes is not None}
    for name in only or written:
        if name not in boxed:
            found += _decision(graph, written[name], softmax.get(name))
    if not found:
        raise PlanError(
            "--agreement: no output says a class, detections or what is above a threshold; give "
            "--min-sqnr, or --max-drop with --metric module:function"
        )
    return found


def _decision(graph: Graph, output: Tensor, softmax: int | None) -> list[Decision]:
    """What an output decides. softmax: along which axis a Softmax wrote it."""
    name = output.name
    if softmax is not None or classifies(graph):
        axis = -1 if softmax is None else softmax
        return [Decision(f"top classes of '{name}'", lambda row: _top(row[name], axis), _equal)]
    node = producer(same_source(output))
    if node is not None and node.op == "Sigmoid":
        said = f"what of '{name}' is above {ABOVE}"
        return [Decision(said, lambda row: row[name] > ABOVE, _overlapping)]
    kind = output.dtype
    if kind is not None and not isinstance(kind, int | Other) and np.dtype(kind).kind in "iub":
        return [Decision(f"values of '{name}'", lambda row: np.asarray(row[name]), _equal)]
    return []


def _top(values: Array, axis: int) -> Array:
    """The top class of each row; -1 where a value is NaN, which is like no other."""
    top = values.argmax(axis)
    return np.asarray(np.where(np.isnan(values).any(axis), -1, top), np.int32)


def _equal(ref: Array, test: Array) -> Counts:
    if ref.shape != test.shape:
        return 0, max(ref.size, test.size)
    return int((ref == test).sum()), ref.size


def _overlapping(ref: Array, test: Array) -> Counts:
    both = int((ref & test).sum()) if ref.shape == test.shape else 0
    return 2 * both, int(ref.sum()) + int(test.sum())


def _detections(parts: Sequence[Part]) -> list[Decision]:
    """The detections, where there is one part of boxes and one of scores; with objectness, where
    that is a part too, a class has the product of both."""
    boxes = [p for p in parts if p.called.endswith(BOXES)]
    scores = [p for p in parts if p.is_scores]
    if len(boxes) != 1 or len(scores) != 1:
        return []
    factors = [*scores, *(p for p in parts if p.called.endswith(OBJECTNESS))]

    def made(row: Outputs) -> Array:
        places, marks, *objects = (_rows(p, row[p.output]) for p in (*boxes, *factors))
        for factor in objects:
            marks = marks * factor
        pairs = zip(places, marks, strict=True)
        return np.concatenate([detected(*pair, image) for image, pair in enumerate(pairs)])

    return [Decision("detections", made, matching)]


def _picked(ranked: Ranked) -> Decision:
    """The detections of a model that picks them by a TopK; no NMS takes any away."""
    return Decision("detections", lambda row: ranked.detections(row), matching)


def _rows(part: Part, value: Array) -> Array:
    """[images, anchors, numbers] of a part, whose numbers lie along its axis."""
    x = np.moveaxis(part.of(value), -1 if part.axis is None else part.axis, -1)
    return x.reshape(x.shape[0] if x.ndim > 2 else 1, -1, x.shape[-1]).astype(np.float64)


def detected(boxes: Array, scores: Array, image: int = 0) -> Array:
    """Detections [n, 7] of one image: image, class, score, x1, y1, x2, y2; the best first.

    boxes: [anchors, 4], corners, or center and size where not all are; scores: [anchors, classes].
    """
    placed = corners(boxes, boxes)
    label, score = scores.argmax(1), scores.max(1)
    left = np.flatnonzero(score > CONFIDENT)
    left = left[np.argsort(-score[left], kind="stable")]
    kept: list[int] = []
    while len(left) and len(kept) < MOST:
        best, left = left[0], left[1:]
        kept.append(int(best))
        near = (label[left] == label[best]) & (overlap(placed[best], placed[left]) > OVERLAP)
        left = left[~near]
    front = [np.full(len(kept), image), label[kept], score[kept]]
    return np.column_stack([*front, placed[kept]]).reshape(-1, 7)


def matching(ref: Array, test: Array, least: float = OVERLAP) -> Counts:
    """(twice the pairs of detections of the same image and class with an IoU of `least` or more,
    all detections); each is in one pair at most, the best choose first."""
    free = np.ones(len(test), bool)
    pairs = 0
    for one in ref:
        near = np.where(
            free & (test[:, 0] == one[0]) & (test[:, 1] == one[1]), overlap(one[3:], test[:, 3:]), 0
        )
        if len(near) and near.max() >= least:
            free[near.argmax()] = False
            pairs += 1
    return 2 * pairs, len(ref) + len(test)
