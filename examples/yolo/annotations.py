"""YOLO labels as COCO annotations.

python examples/yolo/annotations.py val annotations.json

Reads a folder of images, each with its labels in a .txt beside it: class, then centre and size as
shares of the image. Not needed for COCO itself, whose instances_val2017.json is in this form.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def from_labels(folder: Path, classes: int) -> dict[str, Any]:
    """The document, with an image an entry and `classes` categories."""
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    for number, path in enumerate(paths, 1):
        with Image.open(path) as image:
            width, height = image.size
        images.append({"id": number, "file_name": path.name, "width": width, "height": height})
        labels = path.with_suffix(".txt")
        text = labels.read_text("utf-8").split() if labels.is_file() else []
        for label, x, y, w, h in np.array(text, float).reshape(-1, 5):
            w, h = w * width, h * height
            objects.append({
                "id": len(objects) + 1, "image_id": number, "category_id": int(label),
                "bbox": [x * width - w / 2, y * height - h / 2, w, h], "area": w * h, "iscrowd": 0,
            })  # fmt: skip
    categories = [{"id": i, "name": str(i)} for i in range(classes)]
    return {"images": images, "annotations": objects, "categories": categories}


def main() -> None:
    """Write the annotations of a folder."""
    folder, out = map(Path, sys.argv[1:3])
    document = from_labels(folder, classes=80)
    Path(out).write_text(json.dumps(document), "utf-8")


if __name__ == "__main__":
    main()
