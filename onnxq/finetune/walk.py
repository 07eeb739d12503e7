"""Samples on their way from block to block, as the float model and as the quantized one has them.

A sample holds what later blocks read, of both models. One that there is no room for stays behind,
and catches up through the blocks that are learned by then: early blocks have large tensors, so many
positions that few samples do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch

from onnxq.arrays import Samples
from onnxq.finetune.block_model import BlockModel, Values
from onnxq.finetune.interpreter import Live, to_torch
from onnxq.finetune.learned import Learned
from onnxq.finetune.windows import View
from onnxq.recover.draft import Draft

FEWEST = 8  # samples, however large they are


@dataclass
class Held:
    """What is held of a sample in front of block `at`: in float and quantized; out: what the block
    writes in float, once that is known."""

    at: int = -1
    exact: Live = field(default_factory=dict)
    rounded: Live = field(default_factory=dict)
    out: Live | None = None

    def part(self, names: Sequence[str], view: View | None) -> Held:
        """Of the tensors `names` and what the block writes what is in a view; None: all."""
        exact, rounded = ({n: live[n] for n in names} for live in (self.exact, self.rounded))
        if view is None:
            return Held(self.at, exact, rounded, self.out)
        out = None if self.out is None else view.of(self.out)
        return Held(self.at, view.of(exact), view.of(rounded), out)


class Walk:
    """Brings samples to blocks."""

    def __init__(self, models: Sequence[BlockModel], data: Samples, draft: Draft) -> None:
        self.models, self.data, self.draft = models, data, draft
        self.learned = Learned()
        self.held = [Held() for _ in range(len(data))]
        self._standing: dict[int, Values] = {}

    def finish(self, k: int, learned: Learned) -> None:
        """Block `k` is learned."""
        self.learned = self.learned | learned
        self._standing.pop(k, None)

    def bring(self, k: int, samples: Iterable[int]) -> list[Held]:
        """Bring samples to block `k`; what is held of them, in their order."""
        with torch.no_grad():
            return [self._brought(i, k) for i in samples]

    def leave(self, samples: Iterable[int]) -> None:
        """Let go of what is held of samples; they begin anew."""
        for i in samples:
            self.held[i] = Held()

    def standing(self, k: int) -> Values:
        """The quantizers of a block with what is learned so far."""
        if k not in self._standing:
            self._standing[k] = self.models[k].standing(self.learned, self.draft)
        return self._standing[k]

    def _brought(self, i: int, k: int) -> Held:
        held = self.held[i]
        if held.at < 0:
            sample = self.data.sample(i)
            names = self.models[0].block.segment.inputs
            device = self.models[0].run_float.device
            held.exact = {n: to_torch(sample[n], device) for n in names}
            held.rounded, held.at = dict(held.exact), 0
        while held.at < k:
            self._advance(held)
        if held.out is None:
            model = self.models[k]
            held.out = model.exact({n: held.exact[n] for n in model.block.segment.inputs})
        return held

    def _advance(self, held: Held) -> None:
        model = self.models[held.at]
        segment = model.block.segment
        out = held.out
        if out is None:
            out = model.exact({n: held.exact[n] for n in segment.inputs})
        inputs = {n: held.rounded[n] for n in segment.inputs}
        held.rounded |= model.quantized(inputs, self.standing(held.at))
        held.exact |= out
        for name in segment.dead:
            del held.exact[name], held.rounded[name]
        held.out, held.at = None, held.at + 1


def counts(models: Sequence[BlockModel], first: Live, room: int, total: int) -> list[int]:
    """For each block how many samples fit into `room` bytes, what they hold at it and behind it.

    first: the inputs of a sample like all others.
    """
    live, sizes = dict(first), []
    with torch.no_grad():
        for model in models:
            segment = model.block.segment
            before = _bytes(live)
            live |= model.exact({n: live[n] for n in segment.inputs})
            sizes.append(2 * before + _bytes({n: live[n] for n in segment.outputs}))
            for name in segment.dead:
                del live[name]
    ahead = list(accumulate(reversed(sizes), max))[::-1]
    return [min(total, max(FEWEST, room // max(1, size))) for size in ahead]


def _bytes(live: Live) -> int:
    return sum(x.numel() * x.element_size() for x in live.values())
