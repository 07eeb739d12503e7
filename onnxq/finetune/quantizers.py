"""What is learned, as torch computes it: roundings, scales of weights, ranges, biases.

    weight       w = s exp(g) (lo + h(v)),   h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1)
    activation   x' = s e (clip(round(x / (s e)) + z) - z),   e = exp(a)

Rounding passes gradients as if it were not there. Every weight starts at the code at which it
stands, a little toward the float weight; h is pressed to 0 or 1 in the end.

Sources: Nagel et al., "Up or Down? Adaptive Rounding" (2020); Esser et al., "Learned Step Size
Quantization" (2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onnxq import fp4
from onnxq.arrays import Array
from onnxq.numerics import dequantize, spread
from onnxq.passes.insert_qdq import Codes
from onnxq.spec import QuantSpec

STRETCH, BELOW = 1.2, 0.1  # of the sigmoid, so that 0 and 1 are reached
OFF = 0.2  # of a step: at most so far from its code a weight starts


def fake_quant(
    x: torch.Tensor,
    scale: torch.Tensor,
    spec: QuantSpec,
    zero_point: int = 0,
    kept: torch.Tensor | None = None,
) -> torch.Tensor:
    """`numerics.quantize` and `dequantize` in one, with gradients for the scale as in LSQ.

    scale: of all values. kept: 1 where a value stays as it is, else 0, as `x`.
    """
    low, high = spec.row.qmin, spec.row.qmax
    if spec.dtype == "fp8":
        v = torch.clamp(x / scale, low, high)
        out = (v + (v.to(torch.float8_e4m3fn).to(v.dtype) - v).detach()) * scale
        return out if kept is None else torch.lerp(out, x, kept)
    if spec.dtype == "fp4":
        out = _fp4(x, scale)
        return out if kept is None else torch.lerp(out, x, kept)
    found: torch.Tensor = _Integers.apply(x, scale, kept, low - zero_point, high - zero_point)
    return found


def _fp4(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """An activation in blocks of 16 along its last axis, whose scales are read off it."""
    blocks = x.unflatten(-1, (-1, fp4.BLOCK))
    ratio = blocks.detach().abs().amax(-1, keepdim=True) / fp4.LARGEST / scale
    ratio = ratio.clamp(fp4.LEAST_SCALE, fp4.LARGEST_SCALE)
    step = ratio.to(torch.float8_e4m3fn).to(x.dtype) * scale
    v = torch.clamp(blocks / step, -fp4.LARGEST, fp4.LARGEST)
    size = v.detach().abs()
    grid = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0)).to(x.dtype)
    near = torch.round(v.detach() / grid) * grid
    return ((v + (near - v).detach()) * step).flatten(-2)


class _Integers(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    """Values on a grid of whole numbers; written out, a step takes a third of the passes over the
    values that the same by torch's own functions takes.

        y = s q,   q = clip(round(x / s), low, high)
        dy/dx = 1 within the clip, else 0      dy/ds = q - x / s within the clip, else q
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scale: torch.Tensor, kept: torch.Tensor | None, low: int,
        high: int,
    ) -> torch.Tensor:  # fmt: skip
        """y, and x where it is kept."""
        v = x / scale
        near = torch.round(v)
        q = torch.clamp(near, low, high)
        out = q * scale
        if any(ctx.needs_input_grad):
            within = (near == q).to(x.dtype)
            ctx.shape = scale.shape
            off = q.addcmul_(v, within, value=-1) if ctx.needs_input_grad[1] else None
            if kept is not None:
                within = within.lerp_(torch.ones_like(scale), kept)
                off = None if off is None else off.mul_(1 - kept)
            ctx.save_for_backward(within, off)
        return out if kept is None else torch.lerp(out, x, kept)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override, unused-ignore]
        """By x and by the scale."""
        within, off = ctx.saved_tensors
        by_x = grad * within if ctx.needs_input_grad[0] else None
        by_scale = None if off is None else (grad * off).sum().reshape(ctx.shape)
        return by_x, by_scale, None, None, None


def sigmoid_at(h: Array) -> Array:
    """The v for which h(v) is `h`, from 0 to 1 exclusive."""
    p = (h + BELOW) / STRETCH
    return np.asarray(np.log(p / (1 - p)))


@dataclass(frozen=True)
class Rounding:
    """A weight on its way: (lo + h(v)) s exp(g).

    low: float codes. v: as `low`. scale: as it broadcasts to the weight. gain: one for each scale.
    """

    spec: QuantSpec
    present: Codes
    low: torch.Tensor
    v: torch.Tensor
    gain: torch.Tensor

    @staticmethod
    def of(values: Array, present: Codes, spec: QuantSpec, device: str) -> Rounding:
        """Where a weight stands with these codes."""
        exact = values / spread(present.scale, values.shape, spec)
        codes = present.codes.astype(np.float32)
        up = exact > codes
        low = np.clip(np.where(up, codes, codes - 1), spec.row.qmin, spec.row.qmax - 1)
        off = np.minimum(np.abs(exact - codes), OFF)
        inner = np.where(codes > low, 1 - off, off)  # clipped at an end, it stands at the other
        v = sigmoid_at(np.clip(inner, 0.01, 0.99)).astype(np.float32)

        def tensor(x: Array) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(device)

        gain = torch.zeros(present.scale.shape, device=device, requires_grad=True)
        return Rounding(spec, present, tensor(low), tensor(v).requires_grad_(), gain)

    def soft(self) -> torch.Tensor:
        """h(v)."""
        return torch.clamp(STRETCH * torch.sigmoid(self.v) - BELOW, 0, 1)

    def value(self, hard: bool = False) -> torch.Tensor:
        """The weight with soft codes, or with those that it will have."""
        h = (self.v > 0).to(self.v.dtype) if hard else self.soft()
        scale = torch.from_numpy(self.present.scale).to(self.v.device) * torch.exp(self.gain)
        return (self.low + h) * spread_torch(scale, self.low.shape, self.spec)

    def codes(self) -> Codes:
        """What is written: the codes that it will have, and their scales."""
        codes = (self.low + (self.v > 0)).detach().cpu().numpy()
        gain = np.exp(self.gain.detach().cpu().numpy())
        scale = np.asarray(self.present.scale * gain, np.float32)
        return Codes(scale, codes.astype(self.present.codes.dtype))


def spread_torch(scale: torch.Tensor, shape: tuple[int, ...], spec: QuantSpec) -> torch.Tensor:
    """As `numerics.spread`."""
    if spec.axis is None:
        return scale
    if spec.block_size is not None:
        wide = scale.repeat_interleave(spec.block_size, spec.axis)
        return wide.narrow(spec.axis, 0, shape[spec.axis])
    sizes = [1] * len(shape)
    sizes[spec.axis] = -1
    return scale.reshape(sizes)


def pressure(h: torch.Tensor, beta: float) -> torch.Tensor:
    """sum(1 - |2h - 1|^beta): least where every h is 0 or 1."""
    return (1 - (2 * h - 1).abs().pow(beta)).sum()


@dataclass(frozen=True)
class Grid:
    """The scale of an activation as it stands, its zero point and spec."""

    scale: float
    zero_point: int
    spec: QuantSpec


def fixed(codes: Codes, spec: QuantSpec, device: str) -> torch.Tensor:
    """A weight that is not learned, or learned already."""
    values = dequantize(codes.codes, codes.scale, spec)
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
