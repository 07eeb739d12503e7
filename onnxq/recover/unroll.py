"""A weighted op as a product of matrices: out = W x, for every position of its input.

W is (groups, N outputs, K inputs) and x one of P columns of length K a group:

    Conv             K = channels a group x window, P = samples x output positions   (im2col)
    ConvTranspose    the same on the input with zeros between, as the op is defined
    Gemm, MatMul     K = the contracted axis, P = everything else; a batch of weights is groups

The weight may stand on either side of a Gemm or MatMul.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from onnxq.arrays import Array
from onnxq.model.geometry import CONVOLUTIONS, geometry_of
from onnxq.model.graph import Node, Tensor, constant_of
from onnxq.targets.options import is_weighted

COLUMN_BYTES = 32 << 20  # of columns made at once: of larger inputs fewer positions are looked at


@dataclass(frozen=True)
class Window:
    """What a Conv or ConvTranspose does at each position; pads: all begins, then all ends.

    stuffed: strides of a ConvTranspose, whose zeros stand between its inputs; its own strides are 1
    then and its pads those of the Conv that it equals.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str
    groups: int
    stuffed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Operand:
    """How an op reads a tensor; ops that read it alike have the same columns.

    window: of a Conv. Else the contracted axis is the last, or where `first` is true the one before
    it, and `batch` are the leading axes of the weight.
    """

    tensor: str
    window: Window | None = None
    first: bool = False
    batch: tuple[int, ...] = ()


@dataclass(frozen=True)
class Form:
    """How a weight of some shape is laid out as (groups, N, K)."""

    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    matrix: tuple[int, int, int]

    def matrices(self, values: Array) -> Array:
        """(groups, N, K) of a tensor of the weight's shape."""
        return values.reshape(self.split).transpose(self.order).reshape(self.matrix)

    def tensor(self, matrices: Array) -> Array:
        """The inverse of `matrices`."""
        turned = tuple(self.split[i] for i in self.order)
        return matrices.reshape(turned).transpose(np.argsort(self.order)).reshape(self.shape)


def reading_of(node: Node, index: int) -> tuple[Operand, Form] | str:
    """How an op reads the input that its weight, the constant input `index`, multiplies, and the
    form of the weight; or why that is not known."""
    weight = constant_of(node.inputs[index])
    if weight is None or index > 1 or constant_of(node.inputs[1 - index]) is not None:
        return "it does not multiply an input by a weight"
    if not is_weighted(node):
        return f"{node.op} is not a product of matrices"
    if node.op in CONVOLUTIONS:
        return _convolution(node, weight.shape) if index == 1 else "its input is a constant"
    return _matrix(node, index, node.inputs[1 - index], weight.shape)


def _convolution(node: Node, shape: tuple[int, ...]) -> tuple[Operand, Form] | str:
    deconv, rank = node.op == "ConvTranspose", len(shape) - 2
    kernel, groups = shape[2:], geometry_of(node).groups
    strides = tuple(node.attrs.get("strides") or (1,) * rank)
    dilations = tuple(node.attrs.get("dilations") or (1,) * rank)
    pads = tuple(node.attrs.get("pads") or (0,) * (2 * rank))
    auto_pad = str(node.attrs.get("auto_pad") or "NOTSET")
    if not deconv:
        window = Window(kernel, strides, dilations, pads, auto_pad, groups)
        matrix = (groups, shape[0] // groups, math.prod(shape[1:]))
        return Operand(node.inputs[0].name, window), Form(shape, matrix, (0, 1, 2), matrix)
    if "output_shape" in node.attrs or auto_pad not in ("NOTSET", "VALID"):
        return "its padding is given by the shape of its output"
    extra = tuple(node.attrs.get("output_padding") or (0,) * rank)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    begins = [r - p for r, p in zip(reach, pads[:rank], strict=True)]
    ends = [r - p + e for r, p, e in zip(reach, pads[rank:], extra, strict=True)]
    window = Window(kernel, (1,) * rank, dilations, (*begins, *ends), "NOTSET", groups, strides)
    inner, taps = shape[0] // groups, math.prod(kernel)
    form = Form(
        shape,
        (groups, inner, shape[1], taps),
        (0, 2, 1, 3),
        (groups, shape[1], inner * taps),
    )
    return Operand(node.inputs[0].name, window), form


def _matrix(
    node: Node, index: int, other: Tensor, shape: tuple[int, ...]
) -> tuple[Operand, Form] | str:
    """Of Gemm and MatMul; the weight is input `index`."""
    contracted_first, first = (geometry_of(node, i).inputs in (0, -2) for i in (index, 1 - index))
    if len(shape) < 2:
        row = (1, 1, shape[0])
        return Operand(other.name, None, first), Form(shape, row, (0, 1, 2), row)
    batch = tuple(shape[:-2])
    split = (math.prod(batch), *shape[-2:])
    order = (0, 2, 1) if contracted_first else (0, 1, 2)
    matrix = (split[0], split[order[1]], split[order[2]])
    return Operand(other.name, None, first, batch), Form(shape, split, order, matrix)


def columns(reading: Operand, x: Array, most: int) -> Array:
    """(groups, K, P) float32: what the weight multiplies, at about `most` positions at most.

    Of more positions every n-th is taken; of images every n-th in each direction. An empty tensor
    has none.
    """
    if reading.window is not None:
        return _windows(reading.window, np.asarray(x, np.float32), most)
    x = np.asarray(x, np.float32)
    if x.ndim == 1:
        x = x[:, None] if reading.first else x[None]
    contracted = x.ndim - 2 if reading.first else x.ndim - 1
    batch = reading.batch
    shape = (*np.broadcast_shapes(x.shape[:-2], batch), *x.shape[-2:]) if batch else x.shape
    contracted += len(shape) - x.ndim
    x = np.broadcast_to(x, shape)
    start = len(shape) - 2 - len(batch)
    groups = [start + i for i, n in enumerate(batch) if n > 1]
    rest = [a for a in range(len(shape)) if a not in groups and a != contracted]
    lined = x.transpose(*groups, contracted, *rest)
    lined = lined.reshape(math.prod(batch), x.shape[contracted], -1)
    most = min(most, COLUMN_BYTES // (4 * math.prod(lined.shape[:2])))
    step = max(1, math.ceil(lined.shape[-1] / max(1, most)))  # a sample may have no position
    return np.asarray(lined[..., ::step])


def _windows(window: Window, x: Array, most: int) -> Array:
    """im2col: one slice of the padded input for each tap of the kernel."""
    if window.stuffed:
        x = _stuffed(x, window.stuffed)
    x = _padded(x, _pads(window, x.shape[2:]))
    reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, window.strides, strict=True)]
    taps = math.prod(window.kernel)
    most = min(most, COLUMN_BYTES // (4 * taps * x.shape[1]))
    step = _step(len(x) * math.prod(sizes) / max(1, most), len(sizes), window.stuffed)
    begins = [(n - 1) % step // 2 * s for n, s in zip(sizes, window.strides, strict=True)]
    counts = [
        -(-(n - b // s) // step) for n, b, s in zip(sizes, begins, window.strides, strict=True)
    ]
    out = np.empty((x.shape[1], taps, len(x), *counts), np.float32)
    for i, tap in enumerate(product(*map(range, window.kernel))):
        if window.stuffed:
            tap = tuple(k - 1 - t for k, t in zip(window.kernel, tap, strict=True))
        slices = [
            slice(b + t * d, b + t * d + (c - 1) * s * step + 1, s * step)
            for b, t, d, c, s in zip(
                begins, tap, window.dilations, counts, window.strides, strict=True
            )
        ]
        out[:, i] = np.swapaxes(x[(slice(None), slice(None), *slices)], 0, 1)
    return out.reshape(window.groups, x.shape[1] // window.groups * taps, -1)


def _step(excess: float, rank: int, stuffed: Sequence[int]) -> int:
    """Which positions are taken in each direction: every n-th, so that `excess` times fewer remain.

    The zeros of a ConvTranspose repeat: no step may fall into line with them.
    """
    step: int = max(1, math.ceil(excess ** (1 / max(1, rank)) - 1e-9))
    while step > 1 and any(math.gcd(step, s) > 1 for s in stuffed):
        step += 1
    return step


def _stuffed(x: Array, strides: Sequence[int]) -> Array:
    sizes = [max(0, (n - 1) * s + 1) for n, s in zip(x.shape[2:], strides, strict=True)]
    out = np.zeros((*x.shape[:2], *sizes), np.float32)
    out[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = x
    return out


def _pads(window: Window, sizes: Sequence[int]) -> tuple[int, ...]:
    """All begins, then all ends; raises nothing: auto_pad is worked out for these sizes."""
    if window.auto_pad == "VALID":
        return (0,) * (2 * len(sizes))
    if window.auto_pad == "NOTSET":
        return window.pads
    total = [
        max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        for n, k, s, d in zip(sizes, window.kernel, window.strides, window.dilations, strict=True)
    ]
    less = [t // 2 for t in total]
    more = [t - half for t, half in zip(total, less, strict=True)]
    return (*more, *less) if window.auto_pad == "SAME_LOWER" else (*less, *more)


def _padded(x: Array, pads: Sequence[int]) -> Array:
    """Zeros around an input; a negative pad takes from it."""
    rank = len(pads) // 2
    kept = [slice(max(0, -b), x.shape[2 + i] - max(0, -e))
            for i, (b, e) in enumerate(zip(pads[:rank], pads[rank:], strict=True))]  # fmt: skip
    x = x[(slice(None), slice(None), *kept)]
    if not any(p > 0 for p in pads):
        return x
    widths = [(max(0, b), max(0, e)) for b, e in zip(pads[:rank], pads[rank:], strict=True)]
    return np.pad(x, [(0, 0), (0, 0), *widths])
