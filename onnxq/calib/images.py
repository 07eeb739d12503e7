"""Images as calibration data: where they are, and each as its model reads it.

A folder (with all its subfolders), a glob, a text list of paths, a data YAML of Ultralytics, or one
image. They are decoded by Pillow when they are asked for.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data_sources import by_number
from onnxq.calib.preprocess import CROPPED, Preprocess, Shaped, shaped
from onnxq.calib.resize import linear
from onnxq.errors import DataError
from onnxq.yaml_text import from_yaml

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LISTS, DATA = (".txt",), (".yaml", ".yml")
SPLITS = ("train", "val", "test")  # of a data YAML, the first that it has


@dataclass(frozen=True)
class Images:
    """A record an image file, decoded and preprocessed when it is asked for."""

    paths: Sequence[Path]
    name: str
    steps: Shaped
    stacked = False

    def __len__(self) -> int:
        return len(self.paths)

    def record(self, i: int) -> dict[str, Array]:
        return {self.name: self.steps(resized(self.paths[i], self.steps))[None]}

    def where(self, i: int) -> str:
        return f"'{self.paths[i]}'"


def open_images(
    text: str,
    steps: Preprocess,
    name: str,
    shape: tuple[int | None, ...] | None,
    dtype: np.dtype[Any],
) -> Images:
    """The images that `text` names, for an input; raises DataError where there are none."""
    paths = list(image_paths(text))
    if not paths:
        there = any(c in text for c in "*?[") or Path(text).exists()
        raise DataError(f"--preprocess is for images, and '{text}' "
                        + ("names none" if there else "does not exist"))  # fmt: skip
    return Images(paths, name, shaped(steps, shape, dtype))


def image_paths(text: str) -> Iterator[Path]:
    """The image files that `text` names, sorted by name, lists in their own order; none where it
    names something else. Raises DataError for a list or data YAML that names what is not there."""
    path = Path(text)
    if path.is_dir():
        yield from _sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    elif path.suffix.lower() in SUFFIXES and path.is_file():
        yield path
    elif path.suffix.lower() in LISTS and path.is_file():
        yield from _listed(path)
    elif path.suffix.lower() in DATA and path.is_file():
        yield from _of_data_yaml(path)
    elif glob.has_magic(text):
        matches = (Path(p) for p in glob.glob(text, recursive=True))  # noqa: PTH207
        yield from _sorted(p for p in matches if p.suffix.lower() in SUFFIXES)


def _listed(path: Path) -> Iterator[Path]:
    """A path a line, relative to the list or to the current folder; a label may follow it."""
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        names = dict.fromkeys((line.strip(), line.split()[0]))
        places = [where / name for name in names for where in (path.parent, Path())]
        found = next((p for p in places if p.is_file()), None)
        if found is None:
            raise DataError(f"'{path}', line {number}: there is no image '{line.strip()}'")
        yield found


def _of_data_yaml(path: Path) -> Iterator[Path]:
    """The images of the first split of a data YAML: `path`, `train`, `val` and `test` in it."""
    try:
        document = from_yaml(path.read_text("utf-8"))
    except ValueError as e:
        raise DataError(f"'{path}' is no YAML: {e}") from e
    document = document if isinstance(document, dict) else {}
    split = next((s for s in SPLITS if document.get(s)), None)
    if split is None:
        raise DataError(f"'{path}' names no images: a data YAML has 'train', 'val' or 'test'")
    root = path.parent / str(document.get("path") or "")
    entries = document[split] if isinstance(document[split], list) else [document[split]]
    for entry in entries:
        place = next((p for p in (root / str(entry), Path(str(entry))) if p.exists()), None)
        if place is None:
            raise DataError(f"'{path}': '{split}' is '{entry}', which is not in '{root}'")
        yield from image_paths(str(place))


def _sorted(paths: Iterator[Path]) -> list[Path]:
    """By name, numbers by their value: frame_2 before frame_10."""
    return sorted(paths, key=lambda path: by_number(str(path)))


def resized(path: Path, steps: Shaped) -> Array:
    """An image in the size that the model takes: uint8 of (height, width, channels)."""
    image = _decoded(path, steps.channels, steps.steps.exif)
    height, width = image.shape[:2]
    tall, wide = steps.size
    if steps.steps.fit == "letterbox":
        ratio = min(tall / height, wide / width)
        inner = _resize(image, round(height * ratio), round(width * ratio), steps.steps.filter)
        return _padded(inner, tall, wide, steps.steps.pad)
    if steps.steps.fit == "crop":
        shorter = steps.steps.resized or round(min(tall, wide) / CROPPED)
        sides = (shorter, int(shorter * width / height))
        if width < height:
            sides = (int(shorter * height / width), shorter)
        return _cropped(_resize(image, *sides, steps.steps.filter), tall, wide)
    return _resize(image, tall, wide, steps.steps.filter)


def _decoded(path: Path, channels: int, turn: bool) -> Array:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file) if turn else file
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise DataError(f"'{path}' is not an image that Pillow reads ({e}); take it out") from e
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _resize(image: Array, height: int, width: int, how: str) -> Array:
    height, width = max(1, height), max(1, width)
    if image.shape[:2] == (height, width):
        return image
    if how == "opencv":
        return linear(image, height, width)
    from PIL import Image

    plane = image[..., 0] if image.shape[2] == 1 else image
    made = Image.fromarray(plane).resize((width, height), Image.Resampling[how.upper()])
    return np.asarray(made).reshape(height, width, image.shape[2])


def _padded(image: Array, height: int, width: int, value: int) -> Array:
    """The image in the middle of a larger one; of an odd rest, the smaller half above and left."""
    high, wide = (height - image.shape[0]) / 2, (width - image.shape[1]) / 2
    top, left = round(high - 0.1), round(wide - 0.1)
    out = np.full((height, width, image.shape[2]), value, np.uint8)
    out[top : top + image.shape[0], left : left + image.shape[1]] = image
    return out


def _cropped(image: Array, height: int, width: int) -> Array:
    """The middle of the image; what it is too small for is zero, as in torchvision."""
    high, wide = max(0, height - image.shape[0]), max(0, width - image.shape[1])
    if high or wide:
        sides = ((high // 2, high - high // 2), (wide // 2, wide - wide // 2), (0, 0))
        image = np.pad(image, sides)
    top = round((image.shape[0] - height) / 2.0)
    left = round((image.shape[1] - width) / 2.0)
    return image[top : top + height, left : left + width]
