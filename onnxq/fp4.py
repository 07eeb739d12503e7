"""NVFP4: FP4 E2M1 codes in blocks of 16, whose scales are FP8 E4M3 times one scale of the tensor.

    s  = amax / 6 / 448                       (float32; of 20 bits, so that b s is exact)
    b  = E4M3(amax of the block / 6 / s)      (from 2^-9 to 448, of each block)
    q  = E2M1(x / (b s))                      (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives)
    x' = q (b s)

Both types round half to even, and end where they end. Everywhere else the scale of a block is b s,
one float32 number; `factored` finds b and s again where they are written.

Source: NVIDIA TensorRT documentation, Quantization Schemes; Open Compute Project, "OCP Microscaling
Formats (MX) v1.0" (2023), for E2M1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from ml_dtypes import float4_e2m1fn, float8_e4m3fn

from onnxq.arrays import Array

BLOCK = 16
LARGEST, LARGEST_SCALE = 6.0, 448.0  # of E2M1 and of E4M3
LEAST_SCALE = 2.0**-9  # the least number above zero of E4M3
BITS = 20  # of s: 24 of float32 without the 4 of E4M3
CODES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)

# The op of TensorRT that quantizes an activation; the parser goes by its name alone.
DYNAMIC, DOMAIN = "TRT_FP4DynamicQuantize", "trt"


def rounded(x: Array) -> Array:
    """The nearest values of E2M1, float32 of the shape of `x`."""
    near = np.clip(x, -LARGEST, LARGEST).astype(np.float32).astype(float4_e2m1fn)
    return np.asarray(near, np.float32)


def neighbours(codes: Array, by: int) -> Array:
    """The next code above (`by` 1) or below (-1) each; the last one at an end; same type."""
    grid = np.array([-c for c in CODES[:0:-1]] + list(CODES), codes.dtype)
    place = np.searchsorted(grid, codes)
    return np.asarray(grid[np.clip(place + by, 0, len(grid) - 1)])


def tensor_scale(amax: float, least: float) -> Array:
    """s of a tensor with this range: float32 scalar, at least `least`."""
    exact = max(amax / LARGEST / LARGEST_SCALE, least)
    mantissa, exponent = np.frexp(exact)
    return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, BITS)), exponent - BITS), np.float32)


def block_scales(amax: npt.ArrayLike, s: Array) -> Array:
    """b s of blocks with these ranges: float32, of their shape."""
    ratio = np.asarray(amax, np.float32) / np.float32(LARGEST) / np.float32(s)
    ends = np.clip(ratio, np.float32(LEAST_SCALE), np.float32(LARGEST_SCALE))
    return np.asarray(ends.astype(float8_e4m3fn).astype(np.float32) * np.float32(s))


def factored(scale: Array) -> tuple[Array, Array]:
    """(b in E4M3, s in float32) of scales b s that share one s; raises ValueError for others."""
    codes = np.arange(1, 0x7F, dtype=np.uint8).view(float8_e4m3fn).astype(np.float64)
    wide = scale.astype(np.float64)
    most = float(wide.max())
    for code in codes[::-1]:
        s = np.asarray(most / code, np.float32)
        ratio = wide / float(s)
        b = ratio.astype(np.float32).astype(float8_e4m3fn)
        if float(s) * code == most and np.array_equal(b.astype(np.float64), ratio):
            return b, s
    raise ValueError("the scales of the blocks are no FP8 numbers times one scale")
