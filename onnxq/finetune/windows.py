"""A block seen through a window: part of what it writes, from no more than that depends on.

Large maps have more places than a step needs to learn from. So a step looks at a stretch of each
axis of a block's outputs, and from there back it is known which stretch of every tensor is read:

    value by value; Concat and Split of channels     [a, b)
    Conv, MaxPool                                    [a s - p, (b - 1) s - p + r)     s: stride,
                                                     p: pad, r: reach of the window
    Resize to the nearest, n times as many           [a / n, b / n), rounded outward
    any other                                        all there is

Beyond the ends of a tensor an op pads as ever, and within them the values are there: through a
window come the same values as without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from onnxq.finetune.call import Call, Function
from onnxq.finetune.elementwise import ELEMENTWISE
from onnxq.finetune.interpreter import OPS, Cut, Live, Seen, call_of
from onnxq.finetune.layers import pads_of, reach_of, strides_of
from onnxq.finetune.resizing import taps
from onnxq.model.graph import Node, constant_of
from onnxq.run.segments import Segment, Shapes

PLACES = 32  # along an axis of the finest output: so many are looked at in a step

Extent = tuple[tuple[int, int], ...]  # of each axis behind the first two: where it begins and ends


@dataclass(frozen=True)
class View:
    """held: where tensors begin and end. steps: node -> how it is run."""

    held: Mapping[str, Extent]
    steps: Mapping[str, Seen]

    def of(self, live: Live) -> Live:
        """What of some tensors is in the view."""
        return {n: x[_cut(self.held[n])] if n in self.held else x for n, x in live.items()}

    def shapes(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """The shapes of tensors in the view."""
        return {
            n: (*shape[:2], *(b - a for a, b in self.held[n])) if n in self.held else shape
            for n, shape in shapes.items()
        }


def window_of(
    outputs: Sequence[str], shapes: Shapes, rng: np.random.Generator
) -> dict[str, Extent] | None:
    """A window on those outputs that have places, at the same place of each; None where they are
    not large."""
    grids = {n: shapes[n][2:] for n in outputs if len(shapes[n]) > 2}
    ranks = [len(grid) for grid in grids.values()]
    usual = max(sorted(set(ranks)), key=ranks.count, default=0)
    grids = {n: grid for n, grid in grids.items() if len(grid) == usual}
    axes = list(zip(*grids.values(), strict=True))
    if max((max(axis) for axis in axes), default=0) <= PLACES:
        return None
    stretches = []
    for axis in axes:
        coarse = min(axis)
        length = min(coarse, -(-coarse * PLACES // max(axis)))
        start = int(rng.integers(coarse - length + 1))
        stretches.append((start, start + length, coarse))
    return {
        name: tuple(
            (a * n // coarse, -(-b * n // coarse))
            for n, (a, b, coarse) in zip(grid, stretches, strict=True)
        )
        for name, grid in grids.items()
    }


def drawn_view(segment: Segment, shapes: Shapes | None, rng: np.random.Generator) -> View | None:
    """A view of a block through a window that is drawn; None where all of it is looked at."""
    window = None if shapes is None else window_of(segment.outputs, shapes, rng)
    if shapes is None or window is None:
        return None
    return view_of(segment.nodes, segment.outputs, shapes, window)


def view_of(
    nodes: Sequence[Node], outputs: Sequence[str], shapes: Shapes, window: Mapping[str, Extent]
) -> View:
    """How nodes are run for a window on their outputs; outputs without one are whole.

    shapes: of all tensors that are no constants.
    """
    whole = {n: tuple((0, size) for size in s[2:]) for n, s in shapes.items() if len(s) > 2}
    held = {n: window.get(n, whole[n]) for n in outputs if n in whole}
    found: dict[str, _Rule] = {}
    for node in reversed(nodes):
        written = [t.name for t in node.outputs if t.name in whole]
        if wanted := [held[n] for n in written if n in held]:
            held |= dict.fromkeys(written, _hull(wanted)) if _alike(written, whole) else {
                n: held.get(n, whole[n]) for n in written}  # fmt: skip
        rule = found[node.name] = _rule(node, shapes, held) or _Rule.all_of(node)
        for tensor, extent in zip(node.inputs, rule.reads, strict=True):
            if tensor.name in whole:
                extents = [extent or whole[tensor.name], *filter(None, [held.get(tensor.name)])]
                held[tensor.name] = _hull(extents)
    return View(held, {node.name: found[node.name].step(node, held) for node in nodes})


def _alike(names: Sequence[str], whole: Mapping[str, Extent]) -> bool:
    return len({whole[n] for n in names}) == 1


def _hull(extents: Sequence[Extent]) -> Extent:
    """The least extent that holds them."""
    return tuple((min(a for a, _ in axis), max(b for _, b in axis))
                 for axis in zip(*extents, strict=True))  # fmt: skip


def _cut(extent: Extent, begins: Extent | None = None) -> Cut:
    """What takes an extent of a tensor that begins there, or is whole."""
    starts = [0] * len(extent) if begins is None else [a for a, _ in begins]
    inner = (slice(a - at, b - at) for (a, b), at in zip(extent, starts, strict=True))
    return (slice(None), slice(None), *inner)


@dataclass(frozen=True)
class _Rule:
    """What a node reads of each input, and what it writes then; None: all."""

    reads: tuple[Extent | None, ...]
    writes: Extent | None
    call: Call
    function: Function

    @staticmethod
    def all_of(node: Node) -> _Rule:
        """All that it reads and writes."""
        return _Rule((None,) * len(node.inputs), None, call_of(node), OPS[node.op])

    def step(self, node: Node, held: Mapping[str, Extent]) -> Seen:
        """How the node is run where its tensors are held so far."""
        cuts = [
            None if extent is None else _cut(extent, held[t.name])
            for t, extent in zip(node.inputs, self.reads, strict=True)
        ]
        kept = [None if t.name not in held or self.writes == held[t.name]
                else _cut(held[t.name], self.writes) for t in node.outputs]  # fmt: skip
        return Seen(tuple(cuts), self.call, self.function, tuple(kept))


def _rule(node: Node, shapes: Shapes, held: Mapping[str, Extent]) -> _Rule | None:
    """The rule of a node whose outputs are held so far; None where it takes all there is."""
    name = node.outputs[0].name
    shape = shapes.get(node.inputs[0].name) if node.inputs else None
    if name not in held or shape is None or len(shape) != len(shapes[name]):
        return None
    extent, call = held[name], call_of(node)
    if node.op in ELEMENTWISE:
        return _pointwise(node, node.inputs, shapes, extent)
    if node.op == "BatchNormalization":
        return _pointwise(node, node.inputs[:1], shapes, extent)
    if node.op in ("Concat", "Split") and int(call.get("axis", 0)) % len(shape) == 1:
        inputs = node.inputs if node.op == "Concat" else node.inputs[:1]
        return _pointwise(node, inputs, shapes, extent)
    if node.op == "Conv" and (weight := constant_of(node.inputs[1])) is not None:
        return _windowed(node, shape[2:], weight.shape[2:], extent)
    if node.op == "MaxPool" and not call.get("ceil_mode", 0):
        return _windowed(node, shape[2:], [int(n) for n in call.get("kernel_shape")], extent)
    if node.op == "Resize" and call.get("mode", "nearest") == "nearest":
        return _repeating(node, shape, shapes[name], extent)
    return None


def _pointwise(
    node: Node, inputs: Sequence[object], shapes: Shapes, extent: Extent
) -> _Rule | None:
    """Of an op that works place by place; None for an operand that has places of its own."""
    whole = shapes[node.outputs[0].name]
    reads: list[Extent | None] = []
    for tensor in node.inputs[: len(inputs)]:
        values = constant_of(tensor) if tensor.name else None
        shape = shapes.get(tensor.name) if values is None else values.shape
        if shape is None or all(n == 1 for n in shape[-len(extent) :]):
            reads.append(None)
        elif values is None and len(shape) == len(whole) and shape[2:] == whole[2:]:
            reads.append(extent)
        else:
            return None
    reads += [None] * (len(node.inputs) - len(reads))
    return _Rule(tuple(reads), extent, call_of(node), OPS[node.op])


def _windowed(
    node: Node, sizes: Sequence[int], window: Sequence[int], extent: Extent
) -> _Rule | None:
    """Of an op whose places read a window each, and which pads what lies beyond the ends; None
    where a place reads nothing else."""
    call = call_of(node)
    pads, strides = pads_of(call, sizes, window), strides_of(call, len(window))
    reads, before, behind = [], [], []
    for (a, b), size, (pad, _), reach, stride in zip(
        extent, sizes, pads, reach_of(call, window), strides, strict=True
    ):
        low, high = a * stride - pad, (b - 1) * stride - pad + reach
        if low >= size or high <= 0:
            return None
        reads.append((max(0, low), min(size, high)))
        before.append(max(0, -low))
        behind.append(max(0, high - size))
    attrs = {**call.attrs, "auto_pad": "NOTSET", "pads": [*before, *behind]}
    rest = (None,) * (len(node.inputs) - 1)
    return _Rule((tuple(reads), *rest), extent, replace(call, attrs=attrs), OPS[node.op])


def _repeating(
    node: Node, shape: Sequence[int], whole: Sequence[int], extent: Extent
) -> _Rule | None:
    """Of a Resize that repeats each place; None for any other."""
    call, times = call_of(node), [new // old for old, new in zip(shape, whole, strict=True)]
    if times[:2] != [1, 1] or [n * old for n, old in zip(times, shape, strict=True)] != [*whole]:
        return None
    for n, old in zip(times, shape, strict=True):
        if not np.array_equal(taps(call, old, n, n * old)[0][:, 0], np.arange(n * old) // n):
            return None
    reads = tuple((a // n, -(-b // n)) for (a, b), n in zip(extent, times[2:], strict=True))
    writes = tuple((a * n, b * n) for (a, b), n in zip(reads, times[2:], strict=True))

    def repeated(call: Call, x: torch.Tensor, *rest: torch.Tensor | None) -> torch.Tensor:
        for axis, n in enumerate(times):
            x = x if n == 1 else x.repeat_interleave(n, axis)
        return x

    return _Rule((reads, *[None] * (len(node.inputs) - 1)), writes, call, repeated)
