"""Maps: an output with the two axes of the image, of two models and the difference of both.

A map of one channel, or the channel in which the two models differ most, has colours from the least
to the largest value of both. Whole numbers, and many channels as large as the image itself, are
classes: a colour for the largest channel of each pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxq.arrays import Array, Sample
from onnxq.report.encoded import address, photograph, png, reduced

SMALLEST = 8  # pixels of a side
SIDE, MAP, CLASSES = 640, 160, 320  # longest sides of an image, a map, a map of classes
DARK = 16  # of 255: an image has brighter pixels
COLOURED = (1, 3)  # channels of an image
FEW = 4  # channels from which on they are classes, where a map is as large as the image
# Colours from the least to the largest value, blue to yellow, to be told apart without colour too.
SCALE = ((0, 34, 78), (66, 78, 108), (124, 123, 120), (188, 175, 111), (254, 232, 56))
ERROR = ((255, 255, 255), (255, 178, 128), (217, 72, 15), (96, 20, 0))


@dataclass(frozen=True)
class Image:
    """The input with two axes that a model reads. size: (height, width). last: whether channels are
    the last axis. pixels: to look at, [h, w, 3] of type uint8; None for an input that is no image.
    """

    name: str
    size: tuple[int, int]
    last: bool
    pixels: Array | None


def image_of(sample: Sample) -> Image | None:
    """The one input of four axes, and what it looks like; None where there are several, or none."""
    arrays = {n: x for n, x in sample.items() if isinstance(x, np.ndarray)}  # others: sequences
    found = [(n, x) for n, x in arrays.items() if x.ndim == 4 and x.size]
    if len(found) != 1:
        return None
    ((name, x),) = found
    last = x.shape[1] not in COLOURED and x.shape[3] in COLOURED
    value = x[0] if last else np.moveaxis(x[0], 0, -1)
    if min(value.shape[:2]) < SMALLEST or x.dtype.kind not in "fiu":
        return None
    pixels = _pixels(value) if value.shape[2] in COLOURED else None
    return Image(name, (value.shape[0], value.shape[1]), last, pixels)


def _pixels(value: Array) -> Array:
    """Values [h, w, 1 or 3] as uint8 [h, w, 3]: bytes and shares as they are, others from the least
    to the largest."""
    x = finite(reduced(value, SIDE))
    low, high = float(x.min()), float(x.max())
    if value.dtype != np.uint8 and not (low >= 0 and DARK < high <= 255):
        inside = low >= -0.01 and high <= 1.01
        x = 255 * (x if inside else (x - low) / max(high - low, 1e-12))
    wide = np.repeat(x, 3, 2) if x.shape[2] == 1 else x
    return np.asarray(wide.round().clip(0, 255), np.uint8)


def finite(values: Array) -> Array:
    """The values in float64, 0 for what is not finite."""
    x = values.astype(np.float64)
    return np.where(np.isfinite(x), x, 0.0)


def maps_in(
    image: Image, ref: Mapping[str, Any], test: Mapping[str, Any]
) -> Iterator[tuple[str, Array, Array]]:
    """Outputs with the two axes of the image, as [h, w, channels] of both models."""
    for name, given in ref.items():
        a, b = _laid(image, given), _laid(image, test.get(name))
        if a is not None and b is not None and a.shape == b.shape:
            yield name, a, b


def _laid(image: Image, given: Any) -> Array | None:
    """[h, w, channels] of the first image; None for what has not the image's two axes."""
    if not isinstance(given, np.ndarray):  # a sequence, or nothing
        return None
    x = given
    if x.dtype.kind not in "fiu" or x.ndim not in (3, 4) or not x.size:
        return None
    x = x[0][..., None] if x.ndim == 3 else x[0] if image.last else np.moveaxis(x[0], 0, -1)
    height, width = image.size
    apart = abs(x.shape[0] * width - x.shape[1] * height)
    return x if min(x.shape[:2]) >= SMALLEST and apart <= max(image.size) else None


def map_of(
    image: Image, name: str, a: Array, b: Array, is_share: bool = False
) -> tuple[float, Callable[[], dict[str, Any]]]:
    """(how far an output [h, w, channels] of two models is apart, what makes its picture).

    Of classes the share of pixels that differ; of values noise / signal, at most 1; of shares,
    which have the colours of 0 to 1, the mean of the difference.
    """
    if a.dtype.kind in "iu" or (FEW <= a.shape[2] <= 255 and a.shape[:2] == image.size):
        return _classes(image, name, a, b)
    a, b = finite(a), finite(b)
    noise = ((a - b) ** 2).sum((0, 1))
    signal = float((a**2).sum())
    worst = int(noise.argmax())

    def make() -> dict[str, Any]:
        one, other = a[..., worst], b[..., worst]
        gap = np.abs(one - other)
        low, high = min(one.min(), other.min()), max(one.max(), other.max())
        low, high = (0.0, 1.0) if is_share else (low, high)
        sides = [_coloured(x, low, high, SCALE) for x in (one, other)]
        error = _coloured(gap, 0.0, 1.0 if is_share else float(gap.max()), ERROR)
        channel = f", channel {worst} of {a.shape[2]}" if a.shape[2] > 1 else ""
        return _map(image, f"{name}{channel}", sides, error) | {
            "low": float(low), "high": float(high), "most": float(gap.max()),
        }  # fmt: skip

    if is_share:
        return float(np.abs(a - b).mean()), make
    return min(float(noise.sum()) / max(signal, 1e-300), 1.0), make


def _classes(
    image: Image, name: str, a: Array, b: Array
) -> tuple[float, Callable[[], dict[str, Any]]]:
    whole = a.dtype.kind in "iu"
    one, other = (x[..., 0] if whole else x.argmax(-1) for x in (a, b))
    apart = float((one != other).mean())

    def make() -> dict[str, Any]:
        step = -(-max(one.shape) // CLASSES)
        small = [x[::step, ::step] for x in (one, other)]
        sides = [address(png((x % 256).astype(np.uint8), _palette())) for x in small]
        error = address(
            png((small[0] != small[1]).astype(np.uint8), np.array([ERROR[0], ERROR[2]]))
        )
        channels = "" if whole else f", the largest of {a.shape[2]} channels"
        return _map(image, f"{name}{channels}", sides, error) | {"same": 1 - apart}

    return apart, make


def _map(image: Image, name: str, sides: list[str], difference: str) -> dict[str, Any]:
    read = {} if image.pixels is None else {"image": photograph(image.pixels)}
    height, width = image.size
    return {"kind": "map", "name": name, "width": width, "height": height, **read,
            "float": sides[0], "quantized": sides[1], "difference": difference}  # fmt: skip


def _coloured(values: Array, low: float, high: float, scale: tuple[tuple[int, ...], ...]) -> str:
    x = (reduced(values, MAP) - low) / max(high - low, 1e-300)
    return address(png((255 * x).round().clip(0, 255).astype(np.uint8), _blended(scale)))


def _blended(scale: tuple[tuple[int, ...], ...]) -> Array:
    """256 colours between some, [256, 3]."""
    places = np.linspace(0, len(scale) - 1, 256)
    known = np.array(scale, np.float64)
    return np.stack(
        [np.interp(places, range(len(scale)), known[:, k]) for k in range(3)], 1
    ).round()


def _palette() -> Array:
    """A colour a class, [256, 3]; 0, most often the background, is dark. As PASCAL VOC has them."""
    numbers, colours = np.arange(256), np.zeros((256, 3), np.int64)
    for bit in range(8):
        for k in range(3):
            colours[:, k] |= ((numbers >> (3 * bit + k)) & 1) << (7 - bit)
    return colours
