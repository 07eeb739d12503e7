"""Convolutions, products, pools and normalizations, as functions of torch.

Padding is made first, with the value that the op pads with, so that uneven pads need no case of
their own; a transposed convolution is computed whole and cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch.nn import functional

from onnxq.finetune.call import Call, Function, listed, near

Pairs = list[tuple[int, int]]  # before and behind, an axis each


def pads_of(call: Call, sizes: Sequence[int], window: Sequence[int]) -> Pairs:
    """The padding of each axis of this size under a window, by `pads` or `auto_pad`."""
    count = len(window)
    auto = call.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = call.get("pads") or [0] * 2 * count
        return [(int(pads[k]), int(pads[k + count])) for k in range(count)]
    if auto == "VALID":
        return [(0, 0)] * count
    found = []
    for size, reach, stride in zip(
        sizes, reach_of(call, window), strides_of(call, count), strict=True
    ):
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        small, large = total // 2, total - total // 2
        found.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return found


def strides_of(call: Call, count: int) -> list[int]:
    """The stride of each axis."""
    return [int(s) for s in call.get("strides") or [1] * count]


def _dilations(call: Call, count: int) -> list[int]:
    return [int(d) for d in call.get("dilations") or [1] * count]


def reach_of(call: Call, window: Sequence[int]) -> list[int]:
    """How far a dilated window reaches."""
    spread = zip(window, _dilations(call, len(window)), strict=True)
    return [(size - 1) * dilation + 1 for size, dilation in spread]


def padded(x: torch.Tensor, pads: Pairs, value: float = 0.0) -> torch.Tensor:
    """The last axes padded; negative pads cut."""
    if not any(map(any, pads)):
        return x
    return functional.pad(x, [n for pair in reversed(pads) for n in pair], value=value)


def conv(
    call: Call, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None
) -> torch.Tensor:
    """A convolution over any number of axes up to three."""
    window = w.shape[2:]
    count = len(window)
    pads = pads_of(call, x.shape[2:], window)
    even = all(a == b for a, b in pads)
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[count - 1]
    return function(
        x if even else padded(x, pads), w, b, strides_of(call, count),
        [a for a, _ in pads] if even else 0, _dilations(call, count), int(call.get("group", 1)),
    )  # fmt: skip


def conv_transpose(
    call: Call, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None
) -> torch.Tensor:
    """A transposed convolution: what it writes without pads, cut by them."""
    window = w.shape[2:]
    count = len(window)
    strides, reach = strides_of(call, count), reach_of(call, window)
    further = [int(n) for n in call.get("output_padding") or [0] * count]
    function = (functional.conv_transpose1d, functional.conv_transpose2d,
                functional.conv_transpose3d)[count - 1]  # fmt: skip
    out = function(x, w, None, strides, 0, 0, int(call.get("group", 1)), _dilations(call, count))
    whole = [(n - 1) * s + r + f for n, s, r, f in zip(x.shape[2:], strides, reach, further,
                                                       strict=True)]  # fmt: skip
    pads = _cuts(call, x.shape[2:], whole, strides)
    ends = zip(out.shape[2:], whole, pads, strict=True)
    out = padded(out, [(-before, full - size - after) for size, full, (before, after) in ends])
    return out if b is None else out + b.reshape(-1, *[1] * count)


def _cuts(call: Call, sizes: Sequence[int], whole: Sequence[int], strides: Sequence[int]) -> Pairs:
    """How much of each axis of a transposed convolution is cut, by `pads` or the size wanted."""
    auto, shape = call.get("auto_pad", "NOTSET"), call.get("output_shape")
    if not shape and auto in ("NOTSET", "", "VALID"):
        return pads_of(call, sizes, [1] * len(sizes))
    same = [n * s for n, s in zip(sizes, strides, strict=True)]
    wanted = [int(n) for n in shape][-len(sizes) :] if shape else same
    found = []
    for full, size in zip(whole, wanted, strict=True):
        total = full - size
        small, large = total // 2, total - total // 2
        found.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return found


def gemm(
    call: Call, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None
) -> torch.Tensor:
    """alpha A B + beta C."""
    a = a.t() if call.get("transA", 0) else a
    b = b.t() if call.get("transB", 0) else b
    alpha, beta = float(call.get("alpha", 1.0)), float(call.get("beta", 1.0))
    out = a @ b if alpha == 1 else alpha * (a @ b)
    if c is None or beta == 0:
        return out
    return out + (c if beta == 1 else beta * c)


def _pooled_pads(call: Call, x: torch.Tensor) -> tuple[list[int], Pairs, Pairs]:
    """The window; the padding that the op declares; that which makes room for all windows too."""
    window = [int(n) for n in call.get("kernel_shape")]
    count = len(window)
    pads, strides = pads_of(call, x.shape[2:], window), strides_of(call, count)
    room = []
    for size, (before, after), reach, stride in zip(
        x.shape[2:], pads, reach_of(call, window), strides, strict=True
    ):
        total = size + before + after - reach
        steps = total // stride
        if call.get("ceil_mode", 0):
            steps = -(-total // stride)
            if steps * stride >= size + before:  # a window that begins in the padding
                steps -= 1
        room.append((before, steps * stride + reach - size - before))
    return window, pads, room


def max_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    """The largest value of each window."""
    window, _, room = _pooled_pads(call, x)
    count = len(window)
    function = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[count - 1]
    least = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    return function(
        padded(x, room, least), window, strides_of(call, count), 0, _dilations(call, count)
    )


def average_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    """The mean of each window: over what it has of the tensor, or of its padding too."""
    window, pads, room = _pooled_pads(call, x)
    ones = torch.ones_like(x[:1, :1])
    ones = padded(ones, pads, 1.0 if call.get("count_include_pad", 0) else 0.0)
    more = [(0, r[1] - p[1]) for r, p in zip(room, pads, strict=True)]
    return _window_mean(call, padded(x, room), window) / _window_mean(
        call, padded(ones, more), window
    )


def _window_mean(call: Call, x: torch.Tensor, window: Sequence[int]) -> torch.Tensor:
    count = len(window)
    dilations = _dilations(call, count)
    if any(d > 1 for d in dilations):
        kernel = torch.full((1, 1, *window), 1 / prod(window), dtype=x.dtype, device=x.device)
        function = (functional.conv1d, functional.conv2d, functional.conv3d)[count - 1]
        flat = x.reshape(-1, 1, *x.shape[2:])
        out = function(flat, kernel, None, strides_of(call, count), 0, dilations)
        return out.reshape(*x.shape[:2], *out.shape[2:])
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[count - 1]
    return pool(x, list(window), strides_of(call, count))


def layer_norm(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Normalized over the last axes, from `axis` on."""
    axis = int(call.get("axis", -1)) % x.ndim
    out = functional.layer_norm(x, x.shape[axis:], None, None, float(call.get("epsilon", 1e-5)))
    out = out * scale
    return out if bias is None else out + bias


def instance_norm(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Each channel of each sample normalized."""
    epsilon = float(call.get("epsilon", 1e-5))
    return functional.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def group_norm(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Groups of channels normalized; scale and bias are of channels, of groups up to opset 20."""
    groups, channels = int(call.get("num_groups")), x.shape[1]
    if len(scale) != channels:
        scale, bias = (v.repeat_interleave(channels // groups) for v in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, float(call.get("epsilon", 1e-5)))


def batch_norm(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor,
    variance: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Normalized with the mean and variance that are given."""
    epsilon = float(call.get("epsilon", 1e-5))
    return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


def lp_norm(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Divided by the norm along an axis; 0 where that is 0."""
    norm = torch.linalg.vector_norm(x, int(call.get("p", 2)), int(call.get("axis", -1)), True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


def einsum(call: Call, *x: torch.Tensor) -> torch.Tensor:
    """A sum of products by its equation."""
    return torch.einsum(call.get("equation").replace(" ", ""), *near(*x))


def global_pool(kind: str) -> Function:
    """A mean or a maximum over all places."""

    def pooled(call: Call, x: torch.Tensor) -> torch.Tensor:
        axes = list(range(2, x.ndim))
        return torch.mean(x, axes, True) if kind == "mean" else torch.amax(x, axes, True)

    return pooled


def softmax(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Shares along an axis."""
    return torch.softmax(x, int(call.get("axis", -1)))


def log_softmax(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Their logarithms."""
    return torch.log_softmax(x, int(call.get("axis", -1)))


def cum_sum(call: Call, x: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    """Sums of what stands before, and of the value itself unless `exclusive`."""
    (along,) = listed(call, "axis", axis) or [0]
    x = x.flip(along) if call.get("reverse", 0) else x
    out = torch.cumsum(x, along, dtype=x.dtype)
    out = out - x if call.get("exclusive", 0) else out
    return out.flip(along) if call.get("reverse", 0) else out


def grid_sample(call: Call, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Values at places from -1 to 1 of a map."""
    mode = str(call.get("mode", "linear"))
    return functional.grid_sample(
        x,
        grid.to(x.dtype),
        {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode),
        str(call.get("padding_mode", "zeros")),
        bool(call.get("align_corners", 0)),
    )


LAYERS: dict[str, Function] = {
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "CumSum": cum_sum,
    "Einsum": einsum,
    "Gemm": gemm,
    "GlobalAveragePool": global_pool("mean"),
    "GlobalMaxPool": global_pool("max"),
    "GridSample": grid_sample,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_norm,
    "MatMul": lambda call, a, b: torch.matmul(*near(a, b)),
    "MaxPool": max_pool,
    "Softmax": softmax,
}
