"""Write the yolo_like fixture's data as a data set looks on disk: images, and labels beside them.

python examples/yolo/fixture_images.py FOLDER    ->  FOLDER/calib/*.png, FOLDER/val/*.{png,txt}

Labels are in YOLO's form: class, then centre and size as shares of the image. The validation images
lose the rows well below their last object, so that they are not square and have to be letterboxed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "yolo_like"
MARGIN = 8  # pixels


def write_images(folder: Path) -> None:
    """Write both folders."""
    for name in ("calib", "val"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(np.load(FIXTURE / "calib.npy")):
        _save(np.rint(255 * image).astype(np.uint8), folder / "calib" / f"{i:03}.png")
    with np.load(FIXTURE / "eval.npz") as data:
        images = data["images"]
        every = np.split(data["boxes"], np.cumsum(data["box_counts"])[:-1])
    for i, (image, boxes) in enumerate(zip(images, every, strict=True)):
        height = min(int(boxes[:, 3].max()) + MARGIN, image.shape[1])
        cropped = image[:, :height]
        path = folder / "val" / f"{i:03}.png"
        _save(cropped, path)
        size = np.array(cropped.shape[:0:-1])  # width, height
        centres, extents = (boxes[:, :2] + boxes[:, 2:4]) / 2, boxes[:, 2:4] - boxes[:, :2]
        rows = np.concatenate([boxes[:, 4:], centres / size, extents / size], axis=1)
        np.savetxt(path.with_suffix(".txt"), rows, fmt=["%d", *["%.6f"] * 4])


def _save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image.transpose(1, 2, 0)).save(path)


if __name__ == "__main__":
    write_images(Path(sys.argv[1]))
