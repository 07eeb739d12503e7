"""Resize: along each axis values of the input are mixed, with weights that its sizes decide.

    y[i] = sum over taps k of w[i, k] x[index[i, k]]

Source: ONNX operator specification, Resize, and its reference implementation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from onnxq.arrays import Array
from onnxq.finetune.call import Call


def resize(
    call: Call, x: torch.Tensor, roi: torch.Tensor | None = None,
    scales: torch.Tensor | None = None, sizes: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """The tensor with other lengths of its axes."""
    axes = [a % x.ndim for a in call.get("axes") or range(x.ndim)]
    for axis, (scale, length) in zip(axes, _targets(call, x, axes, scales, sizes), strict=True):
        if scale == 1 and length == x.shape[axis]:
            continue
        index, weights = taps(call, x.shape[axis], scale, length)
        parts = [
            x.index_select(axis, torch.from_numpy(index[:, k].copy()).to(x.device))
            for k in range(index.shape[1])
        ]
        if len(parts) == 1:
            x = parts[0]
            continue
        wide = [1] * x.ndim
        wide[axis] = -1
        w = torch.from_numpy(weights.astype(np.float32)).to(x.device, x.dtype)
        mixed = [part * w[:, k].reshape(wide) for k, part in enumerate(parts)]
        x = torch.stack(mixed).sum(0)
    return x


def upsample(call: Call, x: torch.Tensor, scales: torch.Tensor | None = None) -> torch.Tensor:
    """Resize as it was before opset 10."""
    given = torch.tensor(call.get("scales", [1.0] * x.ndim)) if scales is None else scales
    old = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return resize(Call(call.op, call.name, {**call.attrs, **old}), x, None, given)


def lacks(call: Call) -> str | None:
    """What of Resize there is no function for."""
    if call.get("antialias", 0):
        return "antialias"
    if call.get("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return "tf_crop_and_resize"
    return None


def _targets(
    call: Call, x: torch.Tensor, axes: list[int], scales: torch.Tensor | None,
    sizes: torch.Tensor | None,
) -> list[tuple[float, int]]:  # fmt: skip
    """The scale and the length of each axis."""
    old = [x.shape[a] for a in axes]
    if sizes is None or not sizes.numel():
        assert scales is not None
        factors = [float(s) for s in scales.reshape(-1).tolist()]
        return [(s, math.floor(n * s)) for s, n in zip(factors, old, strict=True)]
    wanted = [int(n) for n in sizes.reshape(-1).tolist()]
    policy = call.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [(new / n, new) for new, n in zip(wanted, old, strict=True)]
    best = min if policy == "not_larger" else max
    scale = best(new / n for new, n in zip(wanted, old, strict=True))
    return [(scale, math.floor(n * scale + 0.5)) for n in old]


def taps(call: Call, old: int, scale: float, new: int) -> tuple[Array, Array]:
    """(index, weight) of the values that each of `new` is mixed from: (new, taps) each."""
    x = _places(call, old, scale, new)
    mode = call.get("mode", "nearest")
    if mode == "nearest":
        nearest = NEAREST[call.get("nearest_mode", "round_prefer_floor")](x)
        return np.clip(nearest, 0, old - 1).astype(np.int64)[:, None], np.ones((new, 1))
    low = np.floor(x)
    t = x - low
    if mode == "linear":
        offsets, weights = np.array([0, 1]), np.stack([1 - t, t], axis=1)
    else:
        offsets = np.array([-1, 0, 1, 2])
        weights = _cubic(np.abs(t[:, None] - offsets), float(call.get("cubic_coeff_a", -0.75)))
    index = low[:, None] + offsets
    if call.get("exclude_outside", 0):
        weights = np.where((index >= 0) & (index < old), weights, 0.0)
        weights = weights / weights.sum(axis=1, keepdims=True)
    return np.clip(index, 0, old - 1).astype(np.int64), weights


def _places(call: Call, old: int, scale: float, new: int) -> Array:
    """Where each of `new` values stands in the input."""
    x = np.arange(new, dtype=np.float64)
    mode = call.get("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        return np.asarray(x / scale)
    if mode == "align_corners":
        return x * (old - 1) / (new - 1) if new > 1 else x * 0
    if mode == "pytorch_half_pixel" and new <= 1:
        return x * 0 - 0.5
    if mode == "half_pixel_symmetric":
        center = old / 2 * (1 - new / (scale * old))
        return np.asarray(center + (x + 0.5) / scale - 0.5)
    return np.asarray((x + 0.5) / scale - 0.5)


def _cubic(d: Array, a: float) -> Array:
    """Weights of cubic convolution at distances from 0 to 2 (Keys 1981)."""
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0.0))


NEAREST: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
