"""Pictures as text that a page can hold: PNG by the standard library, JPEG by Pillow if installed.

    PNG = signature + chunks(IHDR, [PLTE], IDAT, IEND)      chunk = length, kind, data, CRC-32

Source: PNG specification (third edition), sections 5 and 11.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np

from onnxq.arrays import Array

RGB, INDEXED = 2, 3  # colour types
LEAST_SIDE = 320  # pixels of a photograph where Pillow is missing: PNG is large


def png(pixels: Array, palette: Array | None = None) -> bytes:
    """The file of pixels [h, w, 3], or of [h, w] numbers of colours in a palette [n, 3]; uint8."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1)  # each row unfiltered
    if palette is None:
        step = np.zeros_like(rows)
        step[1:] = rows[:-1]
        raw = np.concatenate([np.full((height, 1), 2, np.uint8), rows - step], 1)  # less the row up
    head = struct.pack(">IIBBBBB", width, height, 8, RGB if palette is None else INDEXED, 0, 0, 0)
    colours = b"" if palette is None else _chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    body = _chunk(b"IDAT", zlib.compress(raw.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + colours + body + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def photograph(pixels: Array) -> str:
    """A `data:` address of pixels [h, w, 3], uint8: JPEG, or a smaller PNG without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return address(png(reduced(pixels, LEAST_SIDE).round().astype(np.uint8)))
    file = io.BytesIO()
    small = max(pixels.shape[:2]) <= LEAST_SIDE
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
