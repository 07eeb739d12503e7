"""Images as a YOLO model reads them: scaled to fit a square, the rest grey, RGB in 0 to 1.

python examples/yolo/letterbox.py calib.txt calib.npy --size 640

calib.txt lists an image a line; a path is relative to the list.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

GREY = (114, 114, 114)


@dataclass(frozen=True)
class Placed:
    """Where an image lies in the square: its scale, its left and top margin, its own size."""

    scale: float
    left: int
    top: int
    width: int
    height: int

    def original(self, boxes: np.ndarray) -> np.ndarray:
        """Corners [n, 4] in the square, as corners in the image."""
        moved = (boxes - [self.left, self.top, self.left, self.top]) / self.scale
        return np.clip(moved, 0, [self.width, self.height, self.width, self.height])


def letterbox(path: Path, size: int) -> tuple[np.ndarray, Placed]:
    """An image as [3, size, size] float32, and where it lies in that."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = size / max(image.size)
    scaled = image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR
    )
    left, top = (size - scaled.width) // 2, (size - scaled.height) // 2
    square = Image.new("RGB", (size, size), GREY)
    square.paste(scaled, (left, top))
    values = np.asarray(square, np.float32).transpose(2, 0, 1) / np.float32(255)
    return values, Placed(scale, left, top, image.width, image.height)


def write_npy(paths: list[Path], out: Path, size: int) -> None:
    """Letterbox the images into one .npy [n, 3, size, size], an image in memory at a time."""
    shape = (len(paths), 3, size, size)
    written = np.lib.format.open_memmap(out, "w+", np.float32, shape)
    for i, path in enumerate(paths):
        written[i], _ = letterbox(path, size)
    written.flush()


def main() -> None:
    """Turn a list of images into calibration data."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("list", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=640)
    args = parser.parse_args()
    lines = (line.strip() for line in args.list.read_text("utf-8").splitlines())
    write_npy([args.list.parent / line for line in lines if line], args.out, args.size)


if __name__ == "__main__":
    main()
