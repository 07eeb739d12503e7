"""The numbers, in plain NumPy: the oracle that every quantized graph is checked against.

    scale = amax / qmax                       (float32, at least MIN_SCALE)
    q     = clamp(round_half_even(x / scale) + zero_point, qmin, qmax)
    x'    = (q - zero_point) * scale

For fp8 rounding is to the nearest E4M3 value, and q is that value; for fp4 see `fp4`. The zero
point is 0 but for uint8, where it is the code of 0 in a range from low to high.

Source: ONNX operator specification, QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from ml_dtypes import float8_e4m3fn

from onnxq import fp4
from onnxq.arrays import Array
from onnxq.errors import OnnxqError
from onnxq.spec import QuantSpec

Limit: TypeAlias = float | tuple[float, float]  # a range: amax, or (low, high)

# The least scale in each type. The product of two, the step of an INT32 bias, must not fall below
# the normal numbers of float32: runtimes may take such for zero. FP16 itself ends at 2^-24.
MIN_SCALE = np.float32(2.0**-63)
LEAST = {"float32": MIN_SCALE, "bfloat16": MIN_SCALE, "float16": np.float32(2.0**-24)}
FP16_OFF = 2.0**-7  # share by which FP16 may change a scale: a step of the largest INT8 code


def scale_of(amax: npt.ArrayLike, spec: QuantSpec, scale_dtype: str = "float32") -> Array:
    """Scale for a range: float32, strictly positive in the type that holds it; shape of `amax`.

    `scale_dtype` "float16" or "bfloat16" rounds the scale to what the graph will hold, so that
    weights are rounded with the scale the engine multiplies by. Raises OnnxqError where a range
    is negative, not finite or gives a scale beyond the type's range.

    For fp4 ranges of blocks give b s, in float32 whatever `scale_dtype`, the range of a tensor s.
    """
    if scale_dtype not in LEAST:
        raise OnnxqError(f"unknown scale dtype '{scale_dtype}'; choose float32, "
                         "float16 or bfloat16")  # fmt: skip
    a = np.asarray(amax, np.float64)
    if not np.all(np.isfinite(a)) or np.any(a < 0):
        raise OnnxqError(f"a range must be finite and not negative, got {a.min()} to {a.max()}")
    if np.any(a > np.finfo(np.float32).max):
        raise OnnxqError(f"the range {a.max():.4g} is beyond float32; look for the node it is from")
    if spec.dtype == "fp4":
        s = fp4.tensor_scale(float(a.max(initial=0.0)), float(MIN_SCALE))
        return fp4.block_scales(a, s) if a.ndim else s
    scale = np.asarray(np.maximum(a / spec.row.qmax, LEAST[scale_dtype]), np.float32)
    if spec.row.fixed_scale is not None:
        scale = np.full(a.shape, spec.row.fixed_scale, np.float32)
    if scale_dtype == "float32":
        return scale
    return _rounded_to(scale, scale_dtype)


def _rounded_to(scale: Array, scale_dtype: str) -> Array:
    if scale_dtype == "float16":
        with np.errstate(over="ignore"):
            half = scale.astype(np.float16).astype(np.float32)
        if not np.all(np.isfinite(half)):
            raise OnnxqError(f"scale {scale.max()} overflows FP16; use bf16 or fp32")
        return half
    bits = np.atleast_1d(scale).view(np.uint32).astype(np.int64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32).reshape(scale.shape)


def has_scale(amax: npt.ArrayLike, spec: QuantSpec) -> Array:
    """Which ranges are large enough for a scale, same shape; what is in others becomes 0."""
    return np.asarray(amax, np.float64) >= spec.row.qmax * float(MIN_SCALE)


def fits_fp16(scale: Array) -> bool:
    """Whether FP16 holds the largest of some scales, to `FP16_OFF`; smaller ones may become 2^-24.

    What does not fit loses its tensor: it is beyond 65504, or among the last steps above zero.
    """
    largest = float(np.max(scale, initial=0.0))
    with np.errstate(over="ignore"):
        half = float(np.float16(largest))
    return abs(half - largest) <= FP16_OFF * largest


def affine_of(
    low: float, high: float, spec: QuantSpec, scale_dtype: str = "float32"
) -> tuple[Array, int]:
    """(scale, zero point) that map [low, high], widened to hold 0, onto the codes of uint8.

    The scale is a float32 scalar. Raises OnnxqError as `scale_of` does.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = scale_of(high - low, spec, scale_dtype)
    return scale, int(np.clip(np.rint(-low / float(scale)), spec.row.qmin, spec.row.qmax))


def grid_of(limit: Limit, spec: QuantSpec, scale_dtype: str = "float32") -> tuple[Array, int]:
    """(scale, zero point) of a tensor with one scale, whichever kind of range and spec it has.

    An amax is -amax to amax to an asymmetric spec; low and high are their larger magnitude to a
    symmetric one. Raises OnnxqError as `scale_of` does.
    """
    if spec.asymmetric:
        low, high = limit if isinstance(limit, tuple) else (-limit, limit)
        return affine_of(low, high, spec, scale_dtype)
    return scale_of(magnitude_of(limit), spec, scale_dtype), 0


def magnitude_of(limit: Limit) -> float:
    """The largest |x| within a range."""
    return max(map(abs, limit)) if isinstance(limit, tuple) else limit


def amax_of(x: Array, spec: QuantSpec) -> Array:
    """Largest |x|: float32, of the shape of the spec's scale.

    A scalar per tensor; 1-D along `spec.axis` per channel; per block the shape of `x` with
    ceil(n / block_size) in place of the n of `spec.axis`.
    """
    magnitude = np.abs(x)
    if spec.axis is None:
        return np.asarray(magnitude.max(initial=0.0), np.float32)
    axis = spec.axis % x.ndim
    if spec.block_size is None:
        others = tuple(i for i in range(x.ndim) if i != axis)
        return np.asarray(magnitude.max(axis=others, initial=0.0), np.float32)
    starts = np.arange(0, x.shape[axis], spec.block_size)
    return np.asarray(np.maximum.reduceat(magnitude, starts, axis=axis), np.float32)


def quantize(x: Array, scale: Array, spec: QuantSpec, zero_point: int = 0) -> Array:
    """Codes of `x`, same shape: int32; for fp8 and fp4 float32, the values themselves.

    `scale` is of the shape of `amax_of`.
    """
    s = spread(scale, x.shape, spec)
    with np.errstate(over="ignore"):  # x / s beyond float32 is clamped like any large value
        q = x.astype(np.float32) / s
    if spec.dtype == "fp8":
        grid = np.clip(q, spec.row.qmin, spec.row.qmax).astype(float8_e4m3fn)
        return np.asarray(grid, np.float32)
    if spec.dtype == "fp4":
        return fp4.rounded(q)
    codes = np.clip(np.rint(q) + zero_point, spec.row.qmin, spec.row.qmax)
    return np.asarray(codes, np.int32)


def dequantize(q: Array, scale: Array, spec: QuantSpec, zero_point: int = 0) -> Array:
    """float32 values of codes, same shape."""
    return (q.astype(np.float32) - zero_point) * spread(scale, q.shape, spec)


def fake_quant(x: Array, amax: npt.ArrayLike, spec: QuantSpec) -> Array:
    """`x` after a Q/DQ pair with range `amax`, float32, same shape.

    For an asymmetric spec `amax` is a `Limit`: (low, high), or an amax for both sides. For fp4 an
    amax of the tensor gives s alone: the scale of a block is read off `x`, as of an activation.
    """
    if spec.asymmetric:
        bounds = np.asarray(amax, np.float64)
        limit = (float(bounds[0]), float(bounds[1])) if bounds.ndim else float(bounds)
        scale, zero_point = grid_of(limit, spec)
        return dequantize(quantize(x, scale, spec, zero_point), scale, spec, zero_point)
    scale = scale_of(amax, spec)
    if spec.dtype == "fp4" and not scale.ndim:
        scale = fp4.block_scales(amax_of(x, spec), scale)
    return dequantize(quantize(x, scale, spec), scale, spec)


def spread(scale: Array, shape: tuple[int, ...], spec: QuantSpec) -> Array:
    """`scale` as it broadcasts over a tensor of this shape."""
    s = np.asarray(scale, np.float32)
    if spec.axis is None:
        return s
    if spec.block_size is not None:
        along = np.arange(shape[spec.axis]) // spec.block_size
        return np.take(s, along, axis=spec.axis)
    wide = [1] * len(shape)
    wide[spec.axis] = -1
    return s.reshape(wide)


def sqnr_db(ref: Array, test: Array) -> float:
    """10 log10(sum(ref^2) / sum((ref - test)^2)) in dB.

    inf where they are equal, -inf where only the reference is all zero.
    """
    r = ref.astype(np.float64)
    return decibels(float((r**2).sum()), float(((r - test.astype(np.float64)) ** 2).sum()))


def decibels(power: float, noise: float) -> float:
    """10 log10(power / noise), of two sums of squares; inf without noise, -inf without power."""
    if noise == 0:
        return math.inf
    return 10 * (math.log10(power) - math.log10(noise)) if power else -math.inf
