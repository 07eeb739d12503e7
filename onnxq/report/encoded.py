"""Pictures as text that a page can hold, PNG or JPEG."""

from __future__ import annotations

import base64
import io

import numpy as np

from onnxq.arrays import Array

SHARP_SIDE = 320  # pixels: what is no larger is kept sharp


def png(pixels: Array, palette: Array | None = None) -> bytes:
    """The file of pixels [h, w, 3], or of [h, w] numbers of colours in a palette [n, 3]; uint8."""
    from PIL import Image

    file, image = io.BytesIO(), Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def photograph(pixels: Array) -> str:
    """A `data:` address of pixels [h, w, 3], uint8, as JPEG."""
    from PIL import Image

    file, small = io.BytesIO(), max(pixels.shape[:2]) <= SHARP_SIDE
    Image.fromarray(pixels).save(file, "JPEG", quality=92 if small else 72)
    return address(file.getvalue(), "jpeg")


def address(file: bytes, kind: str = "png") -> str:
    """A file as a `data:` address."""
    return f"data:image/{kind};base64,{base64.b64encode(file).decode('ascii')}"


def reduced(values: Array, side: int) -> Array:
    """Values [h, w, ...] as means of squares, as few pixels each as make no side longer."""
    step = -(-max(values.shape[:2]) // side)
    if step == 1:
        return values.astype(np.float64)
    height, width = (n // step * step for n in values.shape[:2])
    cut = values[:height, :width].astype(np.float64)
    blocks = cut.reshape(height // step, step, width // step, step, *values.shape[2:])
    return np.asarray(blocks.mean((1, 3)))
