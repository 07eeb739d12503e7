"""Whether two models detect alike: detections matched one to one, and the share with its error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from average_precision import Boxes

from onnxq.judge.decisions import matching

CONFIDENT, LEAST = 0.25, 0.9  # score of a detection, IoU of two that are alike
Counts = tuple[int, int]  # twice the alike, all of both


def alike(ref: Boxes, test: Boxes) -> Counts:
    """(twice the detections that are alike, all of both) of an image."""
    sides = []
    for boxes, score, label in (ref, test):
        sure = score > CONFIDENT
        front = [np.zeros(int(sure.sum())), label[sure], score[sure]]
        sides.append(np.column_stack([*front, boxes[sure]]))
    return matching(*sides, LEAST)


@dataclass(frozen=True)
class Alike:
    """The share of detections that are alike over images. each: its counts, [images, 2]."""

    share: float
    error: float
    each: tuple[Counts, ...]

    @staticmethod
    def of(each: Sequence[Counts]) -> Alike:
        """Over images, each with (twice the alike, all of both)."""
        counts = np.array(each, np.float64)
        found = Alike(float(counts[:, 0].sum() / counts[:, 1].sum()), 0.0,
                      tuple((int(a), int(b)) for a, b in each))  # fmt: skip
        return Alike(found.share, _error(found.residuals()), found.each)

    def residuals(self) -> np.ndarray:
        """What each image adds to the error of the share."""
        counts = np.array(self.each, np.float64)
        return np.asarray((counts[:, 0] - self.share * counts[:, 1]) / counts[:, 1].sum())

    def beyond(self, other: Alike) -> tuple[float, float]:
        """(difference of the shares, its standard error) over the same images."""
        return self.share - other.share, _error(self.residuals() - other.residuals())

    def __str__(self) -> str:
        return f"{100 * self.share:.1f} ± {100 * self.error:.1f}%"


def _error(residuals: np.ndarray) -> float:
    n = len(residuals)
    return math.sqrt(n / (n - 1) * float((residuals**2).sum()))
