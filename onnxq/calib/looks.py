"""What calibration data looks like, where that is a mistake that figures cannot show: both models
read the same data, so they agree on wrong data too.

    pixels        whole numbers from 0 to 255 in a float input: never scaled
    scaled twice  nothing above 1/255
    interleaved   channels last in memory, read as channels first: values three apart are nearer to
                  each other than neighbours are, which no image is
    alike         a sample is the one before it but for a few percent: frames of one scene

`look` takes a few samples; what it finds is a line for each input, without the cure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxq.arrays import Array, Sample

PIXEL = 255
DISTINCT = 32  # values that pixels have at least, and classes or flags have not
INTERLEAVED = 1.2  # difference of neighbours over that of values three apart; images: 0.4 to 0.8
CHANNELS = 3
ROWS = 4  # of which one is looked at
ALIKE = 0.05  # of a sample's own spread


Kind = Literal["pixels", "tiny", "interleaved"]
CURES: dict[Kind, str] = {
    "pixels": "scale them as for inference",
    "tiny": "divide once",
    "interleaved": "transpose the images, do not reshape them",
}


@dataclass(frozen=True)
class Oddity:
    """What an input's values look like."""

    kind: Kind
    input: str
    what: str

    def __str__(self) -> str:
        return f"input '{self.input}' {self.what}"


def look(samples: Sequence[Sample]) -> Iterator[Oddity]:
    """What looks like a mistake of preprocessing, input by input."""
    for name in samples[0] if samples else ():
        arrays = [np.asarray(sample[name]) for sample in samples]
        if arrays[0].dtype.kind == "f" and arrays[0].ndim >= CHANNELS and arrays[0].size:
            yield from (Oddity(kind, name, what) for kind, what in _oddities(arrays))


def _oddities(arrays: Sequence[Array]) -> Iterator[tuple[Kind, str]]:
    low, high = min(float(x.min()) for x in arrays), max(float(x.max()) for x in arrays)
    if has_pixels(arrays):
        yield "pixels", f"holds whole numbers from {low:g} to {high:g}, as pixels never scaled"
    elif low >= 0 and 0 < high <= 1.001 / PIXEL:
        yield "tiny", f"holds nothing above {high:.2g}, as pixels divided by 255 twice"
    if 2 * sum(map(is_interleaved, arrays)) > len(arrays):  # small noise now and then looks so
        yield "interleaved", "has channels last in memory and is read as channels first"


def has_pixels(arrays: Sequence[Array]) -> bool:
    """Whether all values are whole numbers from 0 to 255, many different ones."""
    if any((x < 0).any() or (x > PIXEL).any() or (x != np.rint(x)).any() for x in arrays):
        return False
    return max(len(np.unique(x)) for x in arrays) >= DISTINCT


def is_interleaved(x: Array) -> bool:
    """Whether an image of 3 planes, (..., 3, height, width), is one of pixels of 3 values."""
    if x.ndim < CHANNELS or x.shape[-3] != CHANNELS or min(x.shape[-2:]) <= CHANNELS:
        return False
    rows = x[..., ::ROWS, :].astype(np.float32, copy=False)
    near = float(np.abs(rows[..., 1:] - rows[..., :-1]).mean())
    far = float(np.abs(rows[..., CHANNELS:] - rows[..., :-CHANNELS]).mean())
    return near > INTERLEAVED * far > 0


def alike(one: Array, other: Array) -> bool:
    """Whether values of two samples differ, by a few percent of their spread at most."""
    if one.shape != other.shape or not one.size:
        return False
    spread = float(one.std())
    apart = float(np.sqrt(np.mean(np.square(one - other))))
    return 0 < apart < ALIKE * spread
