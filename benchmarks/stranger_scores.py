"""How far what INT8 gives agrees with what float gives: boxes, texts, classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import find_objects, label
from stranger import Array, Data, Outcome, Run, mean


def text_boxes(probability: Array) -> list[tuple[slice, slice]]:
    """Regions above 0.3 of 3 pixels or more a side whose mean is 0.5 or more."""
    areas, _ = label(probability > 0.3)
    found = []
    for k, box in enumerate(find_objects(areas), 1):
        inside = areas[box] == k
        if min(inside.shape) >= 3 and float(probability[box][inside].mean()) >= 0.5:
            found.append(box)
    return found


def corners(boxes: list[tuple[slice, slice]]) -> Array:
    """x, y, x, y of slices."""
    rows = [(b[1].start, b[0].start, b[1].stop, b[0].stop) for b in boxes]
    return np.array(rows, np.float64).reshape(-1, 4)


def matched(a: Array, b: Array, least: float = 0.5) -> int:
    """How many boxes of a have one of b for themselves with an IoU of `least` or more."""
    if not len(a) or not len(b):
        return 0
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    area = [(x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b)]
    iou = inter / (area[0][:, None] + area[1][None] - inter + 1e-9)
    count = 0
    while iou.size and iou.max() >= least:
        i, j = np.unravel_index(iou.argmax(), iou.shape)
        iou = np.delete(np.delete(iou, i, 0), j, 1)
        count += 1
    return count


def same_boxes(found: list[tuple[Array, Array]]) -> Outcome:
    """F1 of boxes, pair by pair: 2 * matched / (all of both)."""
    total = [len(a) + len(b) for a, b in found]
    shares = [2 * matched(a, b) / t if t else 0.0 for (a, b), t in zip(found, total, strict=True)]
    return Outcome(*mean(shares, total))


def collapsed(best: Array) -> tuple[int, ...]:
    """Classes in a row without repeats and blanks (class 0), as CTC reads them."""
    kept = best[np.insert(best[1:] != best[:-1], 0, True)]
    return tuple(int(c) for c in kept if c)


def edits(a: tuple[Any, ...], b: tuple[Any, ...]) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (x != y)))
    return row[-1]


def same_text(found: list[tuple[tuple[Any, ...], ...]]) -> Outcome:
    """1 - edits / characters of float's texts; rows are float, INT8 and, if known, the truth."""
    rows = [r for r in found if r[0]]
    sizes = [len(r[0]) for r in rows]
    agreed = mean([max(0.0, 1 - edits(r[1], r[0]) / len(r[0])) for r in rows], sizes)
    if len(found[0]) < 3:
        return Outcome(*agreed)
    lengths = [len(r[2]) for r in found]
    right = [
        mean([max(0.0, 1 - edits(r[k], r[2]) / len(r[2])) for r in found], lengths)[0]
        for k in (0, 1)
    ]
    return Outcome(*agreed, right=(right[0], right[1]))


def same_class(ref: Run, test: Run, data: Data) -> Outcome:
    """The top class."""
    found = [[int(run(x)[0].reshape(-1).argmax()) for run in (ref, test)] for x in data.fresh]
    agreed = mean([float(a == b) for a, b in found])
    if not data.truth:
        return Outcome(*agreed)
    right = [float(np.mean([r[k] == t for r, t in zip(found, data.truth, strict=True)]))
             for k in (0, 1)]  # fmt: skip
    return Outcome(*agreed, right=(right[0], right[1]))


def yolox_boxes(output: Array) -> Array:
    """x, y, x, y of what scores more than 0.1 and is left by non-maximum suppression at 0.45."""
    cells = [(np.stack(np.meshgrid(np.arange(416 // s), np.arange(416 // s)), 2).reshape(-1, 2), s)
             for s in (8, 16, 32)]  # fmt: skip
    grid = np.concatenate([g for g, _ in cells])
    stride = np.concatenate([np.full((len(g), 1), s) for g, s in cells])
    rows = output[0].astype(np.float64)
    score = rows[:, 4] * rows[:, 5:].max(axis=1)
    middle = (rows[:, :2] + grid) * stride
    half = np.exp(np.minimum(rows[:, 2:4], 20)) * stride / 2
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    kept: list[Array] = []
    for k in np.argsort(-score)[: int((score > 0.1).sum())]:
        if not any(matched(boxes[k : k + 1], b[None], 0.45) for b in kept):
            kept.append(boxes[k])
    return np.array(kept).reshape(-1, 4)
