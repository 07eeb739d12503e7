"""COCO average precision that can be resampled: matched once, images weighted after.

AP of a class at one IoU threshold is the mean of 101 interpolated precisions; the figure is the
mean over the classes present and the thresholds 0.50 to 0.95 (Lin et al., 2014). A match depends on
one image alone, so drawing images anew (bootstrap) only changes how often a detection counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Boxes = tuple[Array, Array, NDArray[np.integer]]  # xyxy [n, 4], score [n], class [n]
Truth = tuple[Array, NDArray[np.integer]]  # xyxy [n, 4], class [n]
THRESHOLDS = np.arange(0.5, 1.0, 0.05)
RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Matches:
    """One class: its detections from the highest score down, and its objects per image.

    image: [n] the detection's image; hit: [n, thresholds] whether it found a free object.
    """

    image: NDArray[np.integer]
    hit: NDArray[np.bool_]
    objects: NDArray[np.integer]


def matches(
    detections: Sequence[Boxes], truths: Sequence[Truth], iou: Callable[[Array, Array], Array]
) -> list[Matches]:
    """The matches of every class that has an object in some image."""
    present = sorted({int(c) for _, classes in truths for c in classes})
    return [_match_class(detections, truths, label, iou) for label in present]


def mean_average_precision(classes: Sequence[Matches], weights: NDArray[np.integer]) -> float:
    """mAP50-95, 0 to 1, with each image counted `weights[image]` times."""
    found = [_average_precision(c, weights) for c in classes if c.objects @ weights]
    return float(np.mean(found))


def paired_bootstrap(
    reference: Sequence[Matches], test: Sequence[Matches], draws: int = 200
) -> tuple[float, float]:
    """(mean, standard error) of mAP(test) - mAP(reference) over images drawn with replacement."""
    images, rng = len(reference[0].objects), np.random.default_rng(0)
    gaps = []
    for _ in range(draws):
        weights = np.bincount(rng.integers(images, size=images), minlength=images)
        gaps.append(
            mean_average_precision(test, weights) - mean_average_precision(reference, weights)
        )
    return float(np.mean(gaps)), float(np.std(gaps, ddof=1))


def _match_class(
    detections: Sequence[Boxes],
    truths: Sequence[Truth],
    label: int,
    iou: Callable[[Array, Array], Array],
) -> Matches:
    scores, images, hits = [], [], []
    for image, ((boxes, score, cls), (objects, classes)) in enumerate(
        zip(detections, truths, strict=True)
    ):
        mine = np.flatnonzero(cls == label)
        mine = mine[np.argsort(-score[mine])]
        overlap = iou(boxes[mine], objects[classes == label])
        scores.append(score[mine])
        images.append(np.full(len(mine), image, np.int64))
        hits.append(np.stack([_greedy(overlap, t) for t in THRESHOLDS], axis=1))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    objects = np.array([int((classes == label).sum()) for _, classes in truths])
    return Matches(np.concatenate(images)[order], np.concatenate(hits)[order], objects)


def _greedy(overlap: Array, threshold: float) -> NDArray[np.bool_]:
    """Each detection, best score first, takes the free object it overlaps most."""
    free, hit = overlap.copy(), np.zeros(len(overlap), bool)
    for i in np.flatnonzero((overlap >= threshold).any(axis=1)):
        best = free[i].argmax()
        if free[i, best] >= threshold:
            hit[i] = True
            free[:, best] = -1.0
    return hit


def _average_precision(matches: Matches, weights: NDArray[np.integer]) -> float:
    count = weights[matches.image]
    seen = count > 0
    if not seen.any():
        return 0.0
    found = np.cumsum(matches.hit[seen] * count[seen, None], axis=0)
    precision = found / np.cumsum(count[seen])[:, None]
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = found / (matches.objects @ weights)
    padded = np.vstack([precision, np.zeros(len(THRESHOLDS))])
    at = [np.searchsorted(r, RECALLS, side="left") for r in recall.T]
    return float(np.mean([padded[i, t] for t, i in enumerate(at)]))
