"""Whether a tensor can be quantized as a spec says."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from onnxq import fp4
from onnxq.model.graph import Tensor, constant_of
from onnxq.spec import HALF_OPSET, QuantSpec

OPSETS = {"tensor": 10, "channel": 13, "block": 21}
DATA_TYPES = {np.dtype(t): t.__name__ for t in (np.float32, np.float16, bfloat16)}


def misfit(tensor: Tensor, spec: QuantSpec, opset: int) -> str | None:
    """Why `tensor` cannot be quantized with `spec` in this opset."""
    dtype = data_type(tensor)
    if dtype is None:
        return f"its type {tensor.dtype} is not {', '.join(DATA_TYPES.values())}"
    needed = max(spec.row.min_opset, OPSETS[spec.granularity])
    needed = max(needed, 10 if dtype == np.float32 else HALF_OPSET)
    if opset < needed:
        what = f"{spec.dtype}{'' if spec.axis is None else f' per {spec.granularity}'} on {dtype}"
        return f"{what} needs opset {needed}, the graph has {opset}; raise it first"
    values = constant_of(tensor)
    if spec.dtype == "fp4":
        return _misfit_fp4(tensor, spec)
    if spec.axis is not None and values is None:
        return "activations take one scale a tensor; write 'int8 per-tensor'"
    if values is not None and spec.axis is not None and not 0 <= spec.axis < values.ndim:
        return f"it has no axis {spec.axis}, its shape is {values.shape}"
    if values is not None and spec.asymmetric:
        return "weights are symmetric; write int8"
    return None


def _misfit_fp4(tensor: Tensor, spec: QuantSpec) -> str | None:
    """Why `tensor` cannot be quantized to FP4."""
    shape = tensor.shape or ()
    if spec.block_size != fp4.BLOCK or spec.axis is None:
        return f"FP4 has blocks of {fp4.BLOCK}; write 'fp4 per-block {fp4.BLOCK} axis 0'"
    if spec.axis not in (len(shape) - 1, len(shape) - 2) or len(shape) not in (2, 3):
        return f"FP4 takes blocks along one of the last two axes of two or three, not of {shape}"
    length = shape[spec.axis]
    if not isinstance(length, int) or length % fp4.BLOCK:
        return f"axis {spec.axis} is {length} long, which blocks of {fp4.BLOCK} do not divide"
    return None


def data_type(tensor: Tensor) -> np.dtype[Any] | None:
    """The type of floating point data (float32 where it is not known); None for any other."""
    if tensor.dtype is None:
        return np.dtype(np.float32)
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError:  # an ONNX type that NumPy does not have
        return None
    return dtype if dtype in DATA_TYPES else None
