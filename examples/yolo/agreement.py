"""How often two YOLO models find the same: a steadier judge of a quantized model than mAP.

python examples/yolo/agreement.py FLOAT.onnx INT8.onnx val2017 instances_val2017.json

Two detections are the same with one class and an IoU above 0.9, one to one; detections are what
scores above 0.25 and NMS leaves. Of m that are the same in an image with a in one model and b in
the other, over N images

    share R = 2 sum(m) / sum(a + b)
    error   = sqrt(N / (N - 1) sum(e^2))         e = (2 m - R (a + b)) / sum(a + b)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from coco_map import Found, detected, iou

CONFIDENT, SAME = 0.25, 0.9  # score, IoU


def same_in(one: Found, other: Found) -> tuple[int, int]:
    """(twice the detections that are the same, all of both) of an image."""
    boxes, scores, classes = (x[one[1] > CONFIDENT] for x in one)
    others, _, labels = (x[other[1] > CONFIDENT] for x in other)
    free, same = np.ones(len(others), bool), 0
    for i in np.argsort(-scores, kind="stable") if len(others) else ():
        near = np.where(free & (labels == classes[i]), iou(boxes[i], others), 0)
        if near.max() > SAME:
            free[near.argmax()] = False
            same += 1
    return 2 * same, len(boxes) + len(others)


def agreement(one: Mapping[int, Found], other: Mapping[int, Found]) -> tuple[float, float]:
    """(share, standard error) over images, 0 to 100; 100 where neither model finds anything."""
    counts = np.array([same_in(found, other[image]) for image, found in one.items()], float)
    total = counts[:, 1].sum()
    if not total:
        return 100.0, 0.0
    share, n = counts[:, 0].sum() / total, len(counts)
    left = (counts[:, 0] - share * counts[:, 1]) / total
    return 100 * float(share), 100 * float(np.sqrt(n / max(n - 1, 1) * (left**2).sum()))


if __name__ == "__main__":
    models, data = map(Path, sys.argv[1:3]), [Path(p) for p in sys.argv[3:5]]
    print("{:.1f} ± {:.1f}% the same".format(*agreement(*(detected(m, *data) for m in models))))
