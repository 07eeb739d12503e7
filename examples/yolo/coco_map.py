"""COCO mAP of a YOLO model, by pycocotools.

python examples/yolo/coco_map.py MODEL val2017 instances_val2017.json

For heads that write [1, 4 + classes, anchors] with boxes as centre and size in pixels of the input,
as YOLOv8 and YOLO11 do. Class i is the i-th category of the annotations by its id.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from letterbox import letterbox
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CONFIDENCE = 0.001
NMS_IOU = 0.7
MOST = 300  # detections of an image
Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # corners [n, 4], scores [n], classes [n]


def detections(output: np.ndarray) -> Found:
    """Corners [n, 4], scores [n] and classes [n] after NMS within each class."""
    rows = output[0].T
    classes, scores = rows[:, 4:].argmax(axis=1), rows[:, 4:].max(axis=1)
    some = np.nonzero(scores > CONFIDENCE)[0]
    some = some[np.argsort(-scores[some], kind="stable")][:3000]
    rows, classes, scores = rows[some], classes[some], scores[some]
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)
    apart = corners + 1e4 * classes[:, None]  # boxes of two classes never overlap
    left, kept = np.arange(len(rows)), []
    while len(left) and len(kept) < MOST:
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[iou(apart[best], apart[left]) <= NMS_IOU]
    return corners[kept], scores[kept], classes[kept]


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The IoU of a box [4] with others [n, 4], by corners."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return inter / np.maximum(areas - inter, 1e-9)


def detected(model: Path, images: Path, annotations: Path) -> dict[int, Found]:
    """What a model finds in each image of an annotations file, by the image's id and in its
    pixels."""
    truth = _read(annotations)
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    size = value.shape[2] if isinstance(value.shape[2], int) else 640
    found = {}
    for number in sorted(truth.getImgIds()):
        image, placed = letterbox(images / truth.loadImgs(number)[0]["file_name"], size)
        corners, scores, classes = detections(session.run(None, {value.name: image[None]})[0])
        found[number] = placed.original(corners), scores, classes
    return found


def coco_map(every: Mapping[int, Found], annotations: Path) -> dict[str, float]:
    """mAP50-95 and mAP50, 0 to 100, of what was found in the images of an annotations file."""
    truth = _read(annotations)
    ids = sorted(truth.getCatIds())
    found: list[dict[str, Any]] = []
    for number, (corners, scores, classes) in every.items():
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        found += [
            {"image_id": number, "category_id": ids[c], "bbox": b.tolist(), "score": float(s)}
            for b, s, c in zip(boxes, scores, classes, strict=True)
        ]
    if not found:
        return {"mAP50-95": 0.0, "mAP50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        scored = COCOeval(truth, truth.loadRes(found), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return {"mAP50-95": 100 * float(scored.stats[0]), "mAP50": 100 * float(scored.stats[1])}


def _read(annotations: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        return COCO(str(annotations))


if __name__ == "__main__":
    network, folder, labels = map(Path, sys.argv[1:4])
    print(json.dumps(coco_map(detected(network, folder, labels), labels), indent=1))
