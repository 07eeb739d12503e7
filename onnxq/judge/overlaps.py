"""Boxes by corners, and how far they overlap."""

from __future__ import annotations

import numpy as np

from onnxq.arrays import Array


def corners(boxes: Array, like: Array) -> Array:
    """Corners [n, 4] of boxes [n, 4], which are center and size where not all boxes of `like` are
    corners."""
    if (like[:, 2:] >= like[:, :2]).all():
        return boxes
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)


def overlap(box: Array, others: Array) -> Array:
    """The IoU of a box [4] with others [n, 4], by corners."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    both = np.clip(high - low, 0.0, None).prod(1)
    areas = np.abs((others[:, 2:] - others[:, :2]).prod(1)) + abs(float((box[2:] - box[:2]).prod()))
    return np.asarray(both / np.maximum(areas - both, 1e-12))
