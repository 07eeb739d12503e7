"""Images resized to the same numbers as by the libraries that models were trained with.

`linear` is OpenCV's `resize` of uint8 with INTER_LINEAR: two neighbours an axis, whatever the
factor, in fixed point.

    x = (i + 1/2) * source / target - 1/2            weights (1 - f, f), f = x - floor(x)
    row = a0 * S[x0] + a1 * S[x0 + 1]                weights rounded to 1/2048
    out = ((b0 * (row0 >> 4) >> 16) + (b1 * (row1 >> 4) >> 16) + 2) >> 2

Where both axes are halved exactly, OpenCV takes the mean of four pixels instead. Source: OpenCV
4.x, modules/imgproc/src/resize.cpp. Pillow's filters, which torchvision uses, are Pillow's own.
"""

from __future__ import annotations

import numpy as np

from onnxq.arrays import Array

ONE = 1 << 11  # a weight of 1


def linear(image: Array, height: int, width: int) -> Array:
    """`image`, uint8 of (height, width, channels), in another size, as OpenCV computes it."""
    if image.shape[:2] == (height, width):
        return image
    if image.shape[:2] == (2 * height, 2 * width):
        pairs = image[0::2].astype(np.uint16) + image[1::2]
        return ((pairs[:, 0::2] + pairs[:, 1::2] + 2) >> 2).astype(np.uint8)
    left, right, f = _neighbours(image.shape[1], width)
    f[(left < 0) | (right > image.shape[1] - 1)] = 0.0  # at the borders OpenCV takes one pixel
    left, right = (np.clip(at, 0, image.shape[1] - 1) for at in (left, right))
    first, second = _weights(f)
    source = image.astype(np.int32)
    rows = source[:, left] * first[:, None] + source[:, right] * second[:, None]
    rows >>= 4
    above, below, f = _neighbours(image.shape[0], height)
    above, below = (np.clip(at, 0, image.shape[0] - 1) for at in (above, below))
    first, second = (weight[:, None, None] for weight in _weights(f))
    out = ((rows[above] * first) >> 16) + ((rows[below] * second) >> 16)
    return ((out + 2) >> 2).astype(np.uint8)


def _neighbours(source: int, target: int) -> tuple[Array, Array, Array]:
    """For each of `target` places the two of `source` beside it and how far it is from the first;
    they may lie outside."""
    at = ((np.arange(target) + 0.5) * (1.0 / (target / source)) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    return first, first + 1, at - first.astype(np.float32)


def _weights(f: Array) -> tuple[Array, Array]:
    one = np.float32(1)
    return tuple(np.rint(w * np.float32(ONE)).astype(np.int32) for w in (one - f, f))  # type: ignore[return-value]
