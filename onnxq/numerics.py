"""The numbers, in plain NumPy: the oracle that every quantized graph is checked against.

    scale = amax / qmax                       (float32, at least the least positive FP16)
    q     = clamp(round_half_even(x / scale), qmin, qmax)
    x'    = q * scale

Source: ONNX operator specification, QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxq.errors import OnnxqError
from onnxq.spec import QuantSpec

Array = npt.NDArray[Any]

MIN_SCALE = np.float32(2.0**-24)  # least positive FP16: a smaller scale becomes 0 when cast


def scale_of(amax: npt.ArrayLike, spec: QuantSpec, scale_dtype: str = "float32") -> Array:
    """Scale for a range: float32, strictly positive also when cast to FP16; shape of `amax`.

    `scale_dtype` "float16" or "bfloat16" rounds the scale to what the graph will hold, so that
    weights are rounded with the scale the engine multiplies by. Raises OnnxqError where a range
    is negative, not finite or gives a scale beyond the type's range.
    """
    a = np.asarray(amax, np.float64)
    if not np.all(np.isfinite(a)) or np.any(a < 0):
        raise OnnxqError(f"a range must be finite and not negative, got {a.min()} to {a.max()}")
    if np.any(a > np.finfo(np.float32).max):
        raise OnnxqError(f"the range {a.max():.4g} is beyond float32; look for the node it is from")
    scale = np.asarray(np.maximum(a / spec.row.qmax, MIN_SCALE), np.float32)
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
    if scale_dtype == "bfloat16":
        bits = np.atleast_1d(scale).view(np.uint32).astype(np.int64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return rounded.astype(np.uint32).view(np.float32).reshape(scale.shape)
    raise OnnxqError(f"unknown scale dtype '{scale_dtype}'; choose float32, float16 or bfloat16")


def amax_of(x: Array, spec: QuantSpec) -> Array:
    """Largest |x|: a scalar per tensor, or one value per channel along `spec.axis` (1-D)."""
    if spec.axis is None:
        return np.asarray(np.abs(x).max(initial=0.0), np.float32)
    others = tuple(i for i in range(x.ndim) if i != spec.axis % x.ndim)
    return np.asarray(np.abs(x).max(axis=others, initial=0.0), np.float32)


def quantize(x: Array, scale: Array, spec: QuantSpec) -> Array:
    """Integer codes of `x` as int32, same shape; `scale` is a scalar or 1-D along `spec.axis`.

    Raises OnnxqError for fp8, whose codes are not integers.
    """
    if spec.dtype == "fp8":
        raise OnnxqError("fp8 values are no integer codes; choose int8, int16 or int4")
    s = _along_axis(scale, x.ndim, spec)
    with np.errstate(over="ignore"):  # x / s beyond float32 is clamped like any large value
        q = np.rint(x.astype(np.float32) / s)
    return np.clip(q, spec.row.qmin, spec.row.qmax).astype(np.int32)


def dequantize(q: Array, scale: Array, spec: QuantSpec) -> Array:
    """float32 values of integer codes, same shape."""
    return q.astype(np.float32) * _along_axis(scale, q.ndim, spec)


def fake_quant(x: Array, amax: npt.ArrayLike, spec: QuantSpec) -> Array:
    """`x` after a Q/DQ pair with range `amax`, float32, same shape."""
    scale = scale_of(amax, spec)
    return dequantize(quantize(x, scale, spec), scale, spec)


def _along_axis(scale: Array, ndim: int, spec: QuantSpec) -> Array:
    s = np.asarray(scale, np.float32)
    if spec.axis is None:
        return s
    shape = [1] * ndim
    shape[spec.axis] = -1
    return s.reshape(shape)


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
