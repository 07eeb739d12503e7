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

import numpy as np

from onnxq.arrays import Array, Sample

PIXEL = 255
DISTINCT = 32  # values that pixels have at least, and classes or flags have not
INTERLEAVED = 1.2  # difference of neighbours over that of values three apart; images: 0.4 to 0.8
CHANNELS = 3
ALIKE = 0.05  # of a sample's own spread
PROBES = 4096  # values of a sample that are compared with the next one's


def look(samples: Sequence[Sample]) -> Iterator[str]:
    """A line for each input whose values look like a mistake of preprocessing."""
    for name in samples[0] if samples else ():
        arrays = [np.asarray(sample[name]) for sample in samples]
        if arrays[0].dtype.kind == "f" and arrays[0].ndim >= CHANNELS:
            yield from (f"input '{name}' {what}" for what in _oddities(arrays))


def _oddities(arrays: Sequence[Array]) -> Iterator[str]:
    low, high = min(float(x.min()) for x in arrays), max(float(x.max()) for x in arrays)
    if has_pixels(arrays):
        yield f"holds whole numbers from {low:g} to {high:g}, as pixels that were never scaled"
    elif low >= 0 and 0 < high <= 1.001 / PIXEL:
        yield f"holds nothing above {high:.2g}, as pixels that were divided by 255 twice"
    if any(is_interleaved(x) for x in arrays):
        yield ("has channels last in memory and is read as channels first: "
               "transpose the images, do not reshape them")  # fmt: skip


def has_pixels(arrays: Sequence[Array]) -> bool:
    """Whether all values are whole numbers from 0 to 255, many different ones."""
    if any((x < 0).any() or (x > PIXEL).any() or (x != np.rint(x)).any() for x in arrays):
        return False
    return max(len(np.unique(x)) for x in arrays) >= DISTINCT


def is_interleaved(x: Array) -> bool:
    """Whether an image of 3 planes, (..., 3, height, width), is one of pixels of 3 values."""
    if x.ndim < CHANNELS or x.shape[-3] != CHANNELS or min(x.shape[-2:]) <= CHANNELS:
        return False
    rows = x.astype(np.float32, copy=False)
    near = float(np.abs(rows[..., 1:] - rows[..., :-1]).mean())
    far = float(np.abs(rows[..., CHANNELS:] - rows[..., :-CHANNELS]).mean())
    return near > INTERLEAVED * far > 0


def probes(sample: Sample) -> Array:
    """Values of a sample's float inputs by which it is held against another, float32."""
    floats = [x.reshape(-1) for _, x in sorted(sample.items()) if x.dtype.kind == "f"]
    few = [x[:: max(1, x.size // PROBES)].astype(np.float32) for x in floats]
    return np.concatenate(few) if few else np.zeros(0, np.float32)


def alike(one: Array, other: Array) -> bool:
    """Whether two samples' probes differ by a few percent of their spread, but do differ."""
    if one.shape != other.shape or not one.size:
        return False
    spread = float(one.std())
    apart = float(np.sqrt(np.mean(np.square(one - other))))
    return 0 < apart < ALIKE * spread
