"""Ops that move, count and reduce values, as functions of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from onnxq.finetune.call import Call, Function, listed, near, number

LARGE = 1 << 62  # beyond any length


def reshape(call: Call, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """0 keeps a length, unless `allowzero`."""
    wanted = listed(call, "shape", shape) or []
    if not call.get("allowzero", 0):
        wanted = [x.shape[k] if n == 0 else n for k, n in enumerate(wanted)]
    return x.reshape(wanted)


def flatten(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Two axes: what is before `axis`, and the rest."""
    axis = int(call.get("axis", 1))
    axis = axis + x.ndim if axis < 0 else axis
    first = int(np.prod(x.shape[:axis], dtype=np.int64))
    return x.reshape(first, int(np.prod(x.shape[axis:], dtype=np.int64)))


def transpose(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Axes in the order `perm`, or turned."""
    return x.permute(*(call.get("perm") or range(x.ndim - 1, -1, -1)))


def squeeze(call: Call, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    """Without the axes of length 1, or those of `axes`."""
    which = listed(call, "axes", axes)
    return x.squeeze() if which is None else x.squeeze(which)


def unsqueeze(call: Call, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    """With axes of length 1 at those places of the result."""
    which = listed(call, "axes", axes) or []
    rank = x.ndim + len(which)
    for axis in sorted(a % rank for a in which):
        x = x.unsqueeze(axis)
    return x


def concat(call: Call, *x: torch.Tensor) -> torch.Tensor:
    """One behind the other."""
    return torch.cat(near(*x), int(call.get("axis")))


def split(
    call: Call, x: torch.Tensor, sizes: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """By sizes, or in as many parts as there are outputs, the last the shortest."""
    axis = int(call.get("axis", 0))
    lengths = listed(call, "split", sizes)
    if lengths is None:
        lengths = [-(-x.shape[axis] // call.outputs)] * (call.outputs - 1)
        lengths.append(x.shape[axis] - sum(lengths))
    return tuple(torch.split(x, lengths, axis))


def slices(
    call: Call, x: torch.Tensor, starts: torch.Tensor | None = None,
    ends: torch.Tensor | None = None, axes: torch.Tensor | None = None,
    steps: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Part of each axis; backward where the step is negative."""
    first, last = listed(call, "starts", starts) or [], listed(call, "ends", ends) or []
    along = listed(call, "axes", axes) or list(range(len(first)))
    by = listed(call, "steps", steps) or [1] * len(first)
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        end = min(max(end, -LARGE), LARGE)
        taken = range(*slice(start, None if step < 0 and end <= -LARGE else end, step).indices(
            x.shape[axis]))  # fmt: skip
        if step > 0:
            index = [slice(None)] * (axis % x.ndim) + [slice(taken.start, taken.stop, step)]
            x = x[tuple(index)]
        else:
            x = x.index_select(axis, torch.tensor(list(taken), device=x.device, dtype=torch.int64))
    return x


def gather(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Slices of an axis by their numbers, of any shape."""
    axis = int(call.get("axis", 0)) % x.ndim
    wanted = _positive(indices, x.shape[axis]).to(x.device)
    out = x.index_select(axis, wanted.reshape(-1))
    return out.reshape([*x.shape[:axis], *wanted.shape, *x.shape[axis + 1 :]])


def gather_elements(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Values of an axis by their numbers, each for itself."""
    axis = int(call.get("axis", 0))
    return torch.gather(x, axis, _positive(indices, x.shape[axis]).to(x.device))


def top_k(
    call: Call, x: torch.Tensor, k: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest or smallest values of an axis and their places; of equal ones the first."""
    axis, count = int(call.get("axis", -1)), (listed(call, "k", k) or [1])[0]
    # stable, as ONNX Runtime breaks ties
    values, places = torch.sort(x, dim=axis, descending=bool(call.get("largest", 1)), stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def _positive(indices: torch.Tensor, length: int) -> torch.Tensor:
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + length, indices)


def expand(call: Call, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """Broadcast, to a shape that may itself be broadcast."""
    wanted = torch.broadcast_shapes(x.shape, tuple(listed(call, "shape", shape) or []))
    return x.expand(wanted)


def tile(call: Call, x: torch.Tensor, repeats: torch.Tensor) -> torch.Tensor:
    """Repeated along each axis."""
    return x.repeat(*(listed(call, "repeats", repeats) or []))


def pad(
    call: Call, x: torch.Tensor, pads: torch.Tensor | None = None,
    value: torch.Tensor | None = None, axes: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Padded with a value, or by the numbers of the places that are mirrored, repeated or gone
    round to."""
    given = listed(call, "pads", pads) or []
    along = [a % x.ndim for a in listed(call, "axes", axes) or range(x.ndim)]
    pairs = {axis: (given[k], given[k + len(along)]) for k, axis in enumerate(along)}
    mode = call.get("mode", "constant")
    if mode == "constant":
        fill = call.get("value", 0.0) if value is None else number(value)
        ends = [n for axis in reversed(range(x.ndim)) for n in pairs.get(axis, (0, 0))]
        return functional.pad(x, ends, value=fill)
    for axis, (before, after) in pairs.items():
        places = np.pad(np.arange(x.shape[axis]), (before, after), mode=PADS[mode])
        x = x.index_select(axis, torch.from_numpy(places).to(x.device))
    return x


PADS: dict[str, Any] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def shape_of(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Lengths of the axes from `start` to `end`."""
    return torch.tensor(list(x.shape)[slice(call.get("start", 0), call.get("end"))],
                        dtype=torch.int64)  # fmt: skip


def constant_of_shape(call: Call, shape: torch.Tensor) -> torch.Tensor:
    """One value in every place."""
    value = call.get("value")
    held = np.zeros(1, np.float32) if value is None else np.asarray(getattr(value, "values", value))
    return torch.from_numpy(held.reshape(-1)[:1].copy()).expand(listed(call, "shape", shape))


def arange(
    call: Call, start: torch.Tensor, limit: torch.Tensor, delta: torch.Tensor
) -> torch.Tensor:
    """Numbers from start to before limit."""
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def depth_to_space(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Channels become places."""
    n, c, h, w = x.shape
    b = int(call.get("blocksize"))
    if call.get("mode", "DCR") == "DCR":
        out = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        out = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return out.reshape(n, c // b**2, h * b, w * b)


def space_to_depth(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Places become channels."""
    n, c, h, w = x.shape
    b = int(call.get("blocksize"))
    order = (0, 3, 5, 1, 2, 4) if call.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    out = x.reshape(n, c, h // b, b, w // b, b).permute(*order)
    return out.reshape(n, c * b**2, h // b, w // b)


def arg_max(call: Call, x: torch.Tensor) -> torch.Tensor:
    """The place of the largest value: the first, or the last, of equal ones."""
    axis, keep = int(call.get("axis", 0)), bool(call.get("keepdims", 1))
    if call.get("select_last_index", 0):
        return x.shape[axis] - 1 - torch.argmax(x.flip(axis), axis, keep)
    return torch.argmax(x, axis, keep)


def reduced(
    function: Callable[[torch.Tensor, list[int], bool], torch.Tensor],
) -> Function:
    """A reduction over axes, which are an attribute or an input; over all by default."""

    def reduction(call: Call, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
        which = listed(call, "axes", axes)
        if not which and call.get("noop_with_empty_axes", 0):
            return function(x.unsqueeze(-1), [x.ndim], False)
        over = [a % x.ndim for a in which] if which else list(range(x.ndim))
        return function(x, over, bool(call.get("keepdims", 1))) if over else x

    return reduction


def _product(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keep)
    return x


def _mean(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return torch.mean(x, axes, keep) if x.is_floating_point() else torch.sum(
        x, axes, keep) // np.prod([x.shape[a] for a in axes])  # fmt: skip


MOVING: dict[str, Function] = {
    "ArgMax": arg_max,
    "Concat": concat,
    "ConstantOfShape": constant_of_shape,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "GatherElements": gather_elements,
    "Pad": pad,
    "Range": arange,
    "ReduceL1": reduced(lambda x, axes, keep: torch.sum(torch.abs(x), axes, keep)),
    "ReduceL2": reduced(lambda x, axes, keep: torch.sqrt(torch.sum(x * x, axes, keep))),
    "ReduceMax": reduced(lambda x, axes, keep: torch.amax(x, axes, keep)),
    "ReduceMean": reduced(_mean),
    "ReduceMin": reduced(lambda x, axes, keep: torch.amin(x, axes, keep)),
    "ReduceProd": reduced(_product),
    "ReduceSum": reduced(lambda x, axes, keep: torch.sum(x, axes, keep, dtype=x.dtype)),
    "ReduceSumSquare": reduced(lambda x, axes, keep: torch.sum(x * x, axes, keep, dtype=x.dtype)),
    "Reshape": reshape,
    "Shape": shape_of,
    "Size": lambda call, x: torch.tensor(x.numel(), dtype=torch.int64),
    "Slice": slices,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "TopK": top_k,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
