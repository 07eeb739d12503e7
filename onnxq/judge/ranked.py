"""Outputs whose rows are in an order that values choose, as behind the TopK of a detector.

A model without NMS takes the K best of its places by a TopK, so a small error moves rows, and two
models that find the same are far apart row by row. Such outputs are compared as sets: a row of one
model and one of the other are the same detection where both have the same class and their boxes
overlap by an IoU of 0.5 or more; the best scores choose first, each the nearest box, one to one.
Of a row that one model alone has

    boxes, classes    are left out (NaN in both), and counted
    scores            are 0 in the other model, if they are from 0 to 1; of logits those above
                      that of 0.25 are the least of either model there, others are left out

An output is such where a TopK is among what it is computed from and one of its axes is as long as
what that picks. Boxes are what has four numbers a row: an output, or the first four of more,
`[x1, y1, x2, y2, score, class]` or `[box, scores of classes...]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.overlaps import corners, overlap

LEAST, CONFIDENT = 0.5, 0.25  # IoU of two rows that are one; score of a row that counts
Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Rows:
    """The rows of an output: their axis, and that of the numbers of a row; None where a row is one
    number."""

    output: str
    axis: int
    numbers: int | None = None

    def read(self, value: Array) -> Array:
        """[images, rows, numbers]."""
        x = value[..., None] if self.numbers is None else np.moveaxis(value, self.numbers, -1)
        return x.reshape(-1, *x.shape[-2:])

    def written(self, rows: Array, ndim: int) -> Array:
        """Rows [n, numbers] of all images as an output of one image."""
        if self.numbers is None:
            return rows[:, 0].reshape((1,) * (ndim - 1) + (-1,))
        x = rows.reshape((1,) * (ndim - 2) + rows.shape)
        return np.moveaxis(x, -1, self.numbers)


@dataclass(frozen=True)
class Column:
    """Numbers `start` to `stop` of the rows of an output."""

    output: str
    start: int
    stop: int

    def of(self, rows: Mapping[str, Array]) -> Array:
        """These numbers, [images, rows, stop - start], in float64."""
        return rows[self.output][..., self.start : self.stop].astype(np.float64)


@dataclass(frozen=True)
class Found:
    """How many rows there are in either model, how many are in both; the same of those that score
    above 0.25. `+` adds samples up."""

    rows: int = 0
    both: int = 0
    sure: int = 0
    sure_both: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(self.rows + other.rows, self.both + other.both, self.sure + other.sure,
                     self.sure_both + other.sure_both)  # fmt: skip

    def as_dict(self) -> dict[str, int]:
        """The counts, for a report."""
        return {"rows": self.rows, "both": self.both, "sure": self.sure,
                "sure_both": self.sure_both}  # fmt: skip

    def line(self, outputs: str) -> str:
        """What it comes to, in words."""
        return (f"rows of {outputs} were matched by class and box before they were compared, as a "
                f"TopK orders them: of {self.sure} that score above {CONFIDENT} in either model "
                f"{self.sure_both} are in both, of all {self.rows} {self.both}")  # fmt: skip


@dataclass(frozen=True)
class Ranked:
    """The outputs of a detector whose rows are in no order that holds, and where in them its boxes,
    scores and classes are; classes None where they are those of the best score."""

    rows: tuple[Rows, ...]
    boxes: Column
    scores: Column
    labels: Column | None = None

    @property
    def called(self) -> str:
        """The outputs, for a person."""
        return ", ".join(f"'{r.output}'" for r in self.rows)

    def lined_up(self, ref: Outputs, test: Outputs) -> tuple[Outputs, Outputs, Found]:
        """Both sides of a sample with the same rows at the same places, and how many were found in
        both. As they are where an output is missing, or is of another length."""
        if not all(_alike(r.output, ref, test) for r in self.rows):
            return ref, test, Found()
        sides = [{r.output: r.read(np.asarray(x[r.output])) for r in self.rows}
                 for x in (ref, test)]  # fmt: skip
        scores = [self.scores.of(side) for side in sides]
        likely = all(map(_likely, scores))
        least = min(float(s.min(initial=0)) for s in scores)
        pairs = self._pairs(*sides)
        found = _found(pairs, *(s.max(-1) > _threshold(likely) for s in scores))
        new = [
            {r.output: r.written(self._lined(r, sides, pairs, k, likely, least),
                                 np.ndim(ref[r.output])) for r in self.rows}
            for k, side in enumerate(sides)
        ]  # fmt: skip
        return {**ref, **new[0]}, {**test, **new[1]}, found

    def detections(self, outputs: Outputs) -> Array:
        """Detections [n, 7] of a sample: image, class, score, x1, y1, x2, y2, the best first; rows
        of a score above 0.25, or of a logit above that of 0.25."""
        rows = {r.output: r.read(np.asarray(outputs[r.output])) for r in self.rows}
        scores, label, boxes = self.scores.of(rows), self._classes(rows), self.boxes.of(rows)
        score, found = scores.max(-1), []
        for image, placed in enumerate(boxes):
            sure = np.flatnonzero(score[image] > _threshold(_likely(scores)))
            sure = sure[np.argsort(-score[image, sure], kind="stable")]
            front = [np.full(len(sure), image), label[image, sure], score[image, sure]]
            found.append(np.column_stack([*front, corners(placed, placed)[sure]]))
        return np.concatenate(found)

    def _lined(
        self, rows: Rows, sides: Sequence[Mapping[str, Array]], pairs: Array, k: int, likely: bool,
        least: float,
    ) -> Array:  # fmt: skip
        """The rows of an output of side k, in the order of the pairs. least: of all scores."""
        values = sides[k][rows.output]
        there, both = pairs[:, 1 + k] >= 0, (pairs[:, 1:] >= 0).all(1)
        picked = values[pairs[:, 0], pairs[:, 1 + k]].copy()
        if picked.dtype.kind != "f":
            picked[~there] = -1 if picked.dtype.kind == "i" else 0
            return picked
        kept = picked.copy()
        picked[~both] = np.nan
        if rows.output == self.scores.output:
            at = slice(self.scores.start, self.scores.stop)
            mine = np.where(there[:, None], kept[:, at], 0 if likely else least)
            told = np.ones(len(pairs), bool) if likely else both | self._sure(sides, pairs)
            picked[told, at] = mine[told]
        return picked

    def _sure(self, sides: Sequence[Mapping[str, Array]], pairs: Array) -> Array:
        """Which pairs have a logit above that of 0.25 in a model that has the row."""
        sure = np.zeros(len(pairs), bool)
        for k, side in enumerate(sides):
            best = self.scores.of(side).max(-1)[pairs[:, 0], pairs[:, 1 + k]]
            sure |= (best > _threshold(likely=False)) & (pairs[:, 1 + k] >= 0)
        return sure

    def _pairs(self, ref: Mapping[str, Array], test: Mapping[str, Array]) -> Array:
        """[n, 3]: image, row of the reference, row of the test; -1 for a row that is in one of them
        alone. Those in both come first."""
        both: list[tuple[int, int, int]] = []
        alone: list[tuple[int, int, int]] = []
        sides = [[self.boxes.of(x), self.scores.of(x), self._classes(x)] for x in (ref, test)]
        for image in range(len(sides[0][0])):
            (a, score, label), (b, other, its) = ([v[image] for v in side] for side in sides)
            chosen = matched(corners(a, a), score.max(1), label,
                             corners(b, a), other.max(1), its)  # fmt: skip
            both += [(image, i, j) for i, j in chosen]
            left = ({i for i, _ in chosen}, {j for _, j in chosen})
            alone += [(image, i, -1) for i in range(len(a)) if i not in left[0]]
            alone += [(image, -1, j) for j in range(len(b)) if j not in left[1]]
        return np.array(both + alone, np.int64).reshape(-1, 3)

    def _classes(self, rows: Mapping[str, Array]) -> Array:
        """[images, rows] the class of each row."""
        if self.labels is not None:
            return self.labels.of(rows)[..., 0]
        return np.asarray(self.scores.of(rows).argmax(-1))


def _alike(name: str, ref: Outputs, test: Outputs) -> bool:
    """Whether both have an output, of one shape."""
    return name in ref and name in test and np.shape(ref[name]) == np.shape(test[name])


def _likely(scores: Array) -> bool:
    """Whether scores are from 0 to 1, and no logits."""
    return bool(scores.min(initial=0) >= 0 and scores.max(initial=1) <= 1)


def _threshold(likely: bool) -> float:
    """Above which a row counts: CONFIDENT, or the logit of it."""
    return CONFIDENT if likely else float(-np.log(1 / CONFIDENT - 1))


def matched(
    boxes: Array, score: Array, label: Array, others: Array, its: Array, labels: Array
) -> list[tuple[int, int]]:
    """(row, row of the others) that are the same: one class, an IoU of 0.5 or more by corners
    [n, 4]. The best score chooses first, and of boxes alike the nearest score."""
    free = np.ones(len(others), bool)
    pairs = []
    for i in np.argsort(-score, kind="stable"):
        near = np.where(free & (labels == label[i]), overlap(boxes[i], others), 0)
        near = np.nan_to_num(near)
        if not len(near) or near.max() < LEAST:
            continue
        close = near - 1e-6 * np.nan_to_num(np.minimum(np.abs(its - score[i]), 1))
        j = int(np.where(near >= LEAST, close, -1).argmax())
        free[j] = False
        pairs.append((int(i), j))
    return pairs


def _found(pairs: Array, ref: Array, test: Array) -> Found:
    """The counts; ref, test: [images, rows] whether a row is sure."""
    image, i, j = pairs.T
    both = (i >= 0) & (j >= 0)
    sure = ((i >= 0) & ref[image, i]) | ((j >= 0) & test[image, j])
    return Found(len(pairs), int(both.sum()), int(sure.sum()), int((sure & both).sum()))


def outputs_in(groups: Iterable[Ranked]) -> list[str]:
    """The outputs whose rows are in groups, those that tell rows apart too."""
    return [rows.output for group in groups for rows in group.rows]


def line_up(
    groups: Sequence[Ranked], ref: Outputs, test: Outputs, counts: MutableMapping[str, Found]
) -> tuple[Outputs, Outputs]:
    """Both sides of a sample with the rows of each group at the same places; what was found in both
    is added to `counts`, by what the group is called."""
    for group in groups:
        ref, test, found = group.lined_up(ref, test)
        counts[group.called] = counts.get(group.called, Found()) + found
    return ref, test
