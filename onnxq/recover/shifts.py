"""The shift of one op's channels that brings their means back.

With t the op's output, y = f(t) what the next layer reads, over samples and positions:

    gap   = mean(f(t_float)) - mean(f(t_int8))
    slope = (mean(f(t_int8 + gap)) - mean(f(t_int8))) / gap
    d     = p gap / slope * gap^2 / (gap^2 + s^2)   s: standard error of the gap over the samples

The slope is kept within bounds, which bounds the shift. The last factor holds back shifts of
channels that the samples only seem to show; p, one for the op, those that other samples do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.verdict import CEILING
from onnxq.numerics import decibels
from onnxq.recover.channel_means import MEAN, OTHER, SHIFT, TENSOR, outside, probe
from onnxq.recover.sites import Site
from onnxq.run import runtime as ort
from onnxq.run.replay import Replay

LEAST_GAIN = 1.0  # dB by which the square of other samples' gap must fall: by a fifth
LEAST_SLOPE, MOST_SLOPE = 0.25, 1.5
NO_EFFECT = "hardly brings the means of other samples closer"


@dataclass(frozen=True)
class Batch:
    """Samples that judge and samples that are fitted to, as many as memory has room for."""

    held: range
    fit: range


@dataclass
class Found:
    """What is found site by site: the shift, one float32 value a channel; the gain in dB at the
    node; why a node has no shift."""

    shifts: dict[Site, Array] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)


class Corrector:
    """Finds the shifts of a graph that samples run through piece by piece, op by op."""

    def __init__(self, replay: Replay, pool: ThreadPoolExecutor) -> None:
        self.replay, self.pool, self.found = replay, pool, Found()
        self._probes: dict[bytes, ort.Session] = {}  # many sites are alike

    def correct(self, k: int, site: Site, wanted: Mapping[int, Array], batch: Batch) -> None:
        """Bring the samples to stop `k`, find its shift, note it and make it.

        wanted: of each sample the means of the float model, shape (C,).
        """
        replay, found = self.replay, self.found
        replay.bring(k, (*batch.held, *batch.fit), self.pool)
        # a sample whose tensor is empty has no mean
        fitted, held = ([i for i in part if replay.live[i][site.biased].size]
                        for part in (batch.fit, batch.held))  # fmt: skip
        if not fitted or not held:
            found.undone[site.node] = NO_EFFECT
            return
        none = np.zeros(site.channels, np.float32)
        gaps = self._gaps(site, wanted)
        fit, before = gaps(none, fitted), gaps(none, held)
        moved = fit - gaps(fit.mean(axis=0).astype(np.float32), fitted) if site.region else None
        shift = solve(fit, moved).astype(np.float32)
        part, gain = confirmed(before, before - gaps(shift, held))
        if gain < LEAST_GAIN:
            found.undone[site.node] = NO_EFFECT
            return
        shift = np.float32(part) * shift
        found.shifts[site] = shift
        found.gains[site.node] = gain
        replay.shift(k, shift.reshape(-1, *[1] * (site.rank - 2)) if site.axis == 1 else shift)

    def _gaps(
        self, site: Site, wanted: Mapping[int, Array]
    ) -> Callable[[Array, Sequence[int]], Array]:
        """What says how far the means of samples are from those wanted with a shift."""
        session, extra = self._probe(site), outside(self.replay.nodes, site)

        def mean(i: int, shift: Array) -> Array:
            live = self.replay.live[i]
            feeds = {TENSOR: live[site.biased], SHIFT: shift}
            feeds |= {f"{OTHER}_{k}": live[name] for k, name in enumerate(extra)}
            return ort.run(session, [MEAN], feeds)[0]

        def gaps(shift: Array, samples: Sequence[int]) -> Array:
            means = np.stack(list(self.pool.map(lambda i: mean(i, shift), samples)))
            floats = np.stack([wanted[i] for i in samples]).astype(np.float64)
            with np.errstate(invalid="ignore"):  # of infinities: no shift brings those nearer
                return np.asarray(floats - means)

        return gaps

    def _probe(self, site: Site) -> ort.Session:
        model = probe(self.replay.graph, self.replay.nodes, site)
        key = model.SerializeToString(deterministic=True)
        if key not in self._probes:
            self._probes[key] = ort.session(model, self.replay.runtime, threads=1)
        return self._probes[key]


def confirmed(gaps: Array, moved: Array) -> tuple[float, float]:
    """(which part of a shift other samples confirm, the dB by which their squared gap then falls).

    gaps, moved: as of `solve`, of samples that it was not fitted to. The part p, 0 to 1, is that
    with the least |gap - p moved|^2; what a shift does is taken as linear in p.
    """
    gap, step = gaps.mean(axis=0), moved.mean(axis=0)
    power = float(step @ step)
    part = float(np.clip(gap @ step / power, 0.0, 1.0)) if power else 0.0
    bias, left = float(gap @ gap), float(((gap - part * step) ** 2).sum())
    return part, min(decibels(bias, left), CEILING) if left < bias else 0.0


def solve(gaps: Array, moved: Array | None) -> Array:
    """The shift of each channel, shape (C,).

    gaps: means of float minus quantized, a row for each sample. moved: how far the means went with
    a shift by the mean gap, likewise; None where they go as far as the shift.
    """
    gap = gaps.mean(axis=0)
    variance = gaps.var(axis=0, ddof=1) / len(gaps) if len(gaps) > 1 else np.zeros_like(gap)
    power = gap**2
    certain = np.divide(power, power + variance, out=np.zeros_like(gap), where=power > 0)
    reached = gap if moved is None else moved.mean(axis=0)
    slope = np.divide(reached, gap, out=np.ones_like(gap), where=gap != 0)
    return np.asarray(gap / np.clip(slope, LEAST_SLOPE, MOST_SLOPE) * certain)
