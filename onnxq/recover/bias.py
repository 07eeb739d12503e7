"""Bias correction: give each channel back the mean that quantization took from it.

For every channel of a quantized op with output t, and y = f(t) the tensor that the next layer reads
(f: its activation function, if there is one), find the shift d of the bias with

    mean(f(t_int8 + d)) = mean(f(t_float))        over samples and positions

in the order of the graph, the ops before it being corrected already:

    gap   = mean(f(t_float)) - mean(f(t_int8))
    slope = (mean(f(t_int8 + gap)) - mean(f(t_int8))) / gap
    d     = gap / slope * gap^2 / (gap^2 + s^2)   s: standard error of the gap over the samples

The slope is kept within bounds, which bounds the shift. Compared before the activation instead,
depthwise networks get worse. The last factor holds back shifts that the samples only seem to show.

A quarter of the samples, or half of few, is not fitted to: they judge. An op is left alone if its
shift does not bring their means closer. In the end the shifts of the first n, n/2, n/4 ... ops are
kept, the most that raise the SQNR on average over the outputs and lower it at none.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(2019), section 4.2 and appendix D; there in data-free form, before the activation function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxq import graph as graphs
from onnxq import runtime as ort
from onnxq import segments
from onnxq.calib.data import Dataset
from onnxq.calib.holdout import content_order
from onnxq.errors import ModelError
from onnxq.graph import Graph
from onnxq.numerics import decibels
from onnxq.plan import Plan
from onnxq.recover.channel_means import MEAN, SHIFT, TENSOR, float_means, outside, probe
from onnxq.recover.judge import CEILING, Values, judged_tensors, sqnr, worst_fall
from onnxq.recover.replay import Replay, with_float_weights
from onnxq.recover.sites import Site, find_sites, shift_biases

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]

SAMPLES, HELD_OUT = 32, 4  # at most so many samples; one in four judges
KEPT_BYTES = 24 << 20  # of tensors kept between two ops, of all samples together
FEWEST = 4  # samples, however large they are
LEAST_SLOPE, MOST_SLOPE = 0.25, 1.5
NO_EFFECT = "does not bring the means of other samples closer"
LOWERS = "lowers the SQNR of an output"


@dataclass(frozen=True)
class Corrections:
    """What is added to the biases.

    sites: where a bias could be corrected. shifts: node -> one float32 value a channel. gains: node
    -> by how many dB the square of the gap between the means falls, on held-out samples. undone:
    node -> why it has no shift. before, after: output, or part of one -> SQNR in dB on held-out
    samples. samples: used to fit.
    """

    sites: tuple[Site, ...] = ()
    shifts: Mapping[str, Array] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)
    undone: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Everything but the sites and the shifts themselves, rounded for a report."""
        return {
            "algorithm": "bias correction",
            "samples": self.samples,
            "gain_db": {name: round(g, 2) for name, g in self.gains.items()},
            "undone": dict(self.undone),
            "largest_shift": {n: float(f"{np.abs(s).max():.4g}") for n, s in self.shifts.items()},
            "sqnr_db": {
                name: {"before": round(self.before[name], 3), "after": round(after, 3)}
                for name, after in self.after.items()
            },
        }


def correct_biases(
    graph: Graph,
    quantized: Graph,
    plan: Plan,
    data: Dataset,
    *,
    runtime: ort.Runtime | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Corrections:
    """The shifts that bring the channel means of `quantized` (the Q/DQ form of `graph` by `plan`,
    in float32) back to those of `graph`; neither is changed.

    The samples are chosen by what they hold: the result does not depend on their order, nor on
    `workers`. Raises ModelError for a model that cannot be run.
    """
    judged = judged_tensors(graph)
    if not judged or not len(data):
        return Corrections()
    part = segments.restrict(with_float_weights(quantized), judged)
    sites = find_sites(graph, plan, [node.name for node in part.nodes])
    if not sites:
        return Corrections()
    try:
        replay = Replay(part, [site.biased for site in sites], judged, runtime or ort.Runtime())
    except ModelError as e:
        return Corrections(tuple(sites), undone={site.node: str(e) for site in sites})
    chosen = data.select(content_order(data)[:SAMPLES])
    with ThreadPoolExecutor(workers, "correct") as pool:
        run = _Run(chosen, replay.runtime, pool)
        means, reference = _float_side(graph, sites, judged, run)
        ort.release_free_memory()
        found = _Shifts()
        replay.start(chosen)
        for k, count in enumerate(_counts(replay, chosen)[: len(sites)]):
            _correct(replay, k, sites[k], means[k], run.first(count), found)
            if progress is not None:
                progress(k + 1, len(sites))
        replay.bring(len(replay.segments) - 1, run.held, pool)
        final = [replay.final[i] for i in run.held]
        replay.live.clear()
        replay.sessions.clear()
        ort.release_free_memory()
        return _settled(part, sites, found, (reference, final), run)


@dataclass(frozen=True)
class _Run:
    """Samples in the order of what they hold, the first of which judge; what runs them."""

    data: Dataset
    runtime: ort.Runtime
    pool: ThreadPoolExecutor

    @property
    def held(self) -> range:
        return range(_judges(len(self.data)))

    def first(self, count: int) -> _Batch:
        """`count` samples, divided like all of them."""
        held = range(_judges(count))
        start = len(self.held) if len(self.data) > 1 else 0
        return _Batch(self, held, range(start, start + max(1, count - len(held))))

    def outputs(self, model: Graph, names: Sequence[str]) -> list[dict[str, Array]]:
        """The tensors `names` of a graph for each held-out sample."""
        part = segments.restrict(model, names)
        session = ort.session(graphs.to_proto(part), self.runtime, threads=1)
        wanted = {i.name for i in session.get_inputs()}

        def run(i: int) -> dict[str, Array]:
            feeds = {name: x for name, x in self.data.sample(i).items() if name in wanted}
            return dict(zip(names, ort.run(session, names, feeds), strict=True))

        return [run(i) for i in self.held]


@dataclass
class _Shifts:
    """What is found site by site."""

    shifts: dict[str, Array] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)


def _judges(count: int) -> int:
    """How many of `count` samples judge: a quarter, and of few samples half, up to `FEWEST`."""
    return max(1, count // HELD_OUT, min(FEWEST, count // 2))


@dataclass(frozen=True)
class _Batch:
    """Samples that judge and samples that are fitted to, as many as memory has room for."""

    run: _Run
    held: range
    fit: range


def _counts(replay: Replay, data: Dataset) -> list[int]:
    """For each segment how many samples: as many as fit into `KEPT_BYTES` from there on.

    Large tensors have many positions, and so need few samples; the others catch up later.
    """
    kept = replay.kept_bytes(data.sample(0))
    ahead = list(accumulate(reversed(kept), max))[::-1]
    return [min(len(data), max(FEWEST, KEPT_BYTES // max(1, size))) for size in ahead]


def _float_side(
    graph: Graph, sites: Sequence[Site], judged: Sequence[str], run: _Run
) -> tuple[list[Array], list[dict[str, Array]]]:
    """Of the float model: the means that each site compares, shape (samples, C), and the judged
    tensors of the held-out samples.
    """
    model = float_means(graph, sites, judged)
    session = ort.session(model, run.runtime, threads=1)
    names = [o.name for o in session.get_outputs()]
    inputs = {i.name for i in session.get_inputs()}

    def one(i: int) -> list[Array]:
        feeds = {name: x for name, x in run.data.sample(i).items() if name in inputs}
        wanted = names if i in run.held else names[len(judged) :]
        return ort.run(session, wanted, feeds)

    rows = [one(i) for i in range(len(run.data))]  # one at a time: it is run whole
    means = [
        np.stack([row[k - len(sites)] for row in rows]).astype(np.float64)
        for k in range(len(sites))
    ]
    return means, [dict(zip(judged, rows[i], strict=False)) for i in run.held]


def _correct(
    replay: Replay, k: int, site: Site, wanted: Array, batch: _Batch, found: _Shifts
) -> None:
    """Bring the samples to stop `k`, find its shift, note it in `found` and make it.

    wanted: the means of the float model, shape (samples, C).
    """
    run = batch.run
    replay.bring(k, (*batch.held, *batch.fit), run.pool)
    session = ort.session(probe(replay.graph, site), run.runtime, threads=1)
    extra = outside(replay.graph, site)

    def gaps(shift: Array, samples: range) -> Array:
        def mean(i: int) -> Array:
            live = replay.live[i]
            feeds = {TENSOR: live[site.biased], SHIFT: shift} | {n: live[n] for n in extra}
            return ort.run(session, [MEAN], feeds)[0]

        found: Array = np.stack(list(run.pool.map(mean, samples)))
        return wanted[list(samples)] - found

    none = np.zeros(site.channels, np.float32)
    fit, before = gaps(none, batch.fit), gaps(none, batch.held)
    moved = fit - gaps(fit.mean(axis=0).astype(np.float32), batch.fit) if site.region else None
    shift = solve(fit, moved).astype(np.float32)
    bias, left = _squared_mean(before), _squared_mean(gaps(shift, batch.held))
    if not left < bias:
        found.undone[site.node] = NO_EFFECT
        return
    found.shifts[site.node] = shift
    found.gains[site.node] = min(decibels(bias, left), CEILING)
    replay.shift(k, shift.reshape(-1, *[1] * (site.rank - 2)) if site.axis == 1 else shift)


def _squared_mean(gaps: Array) -> float:
    return float((gaps.mean(axis=0) ** 2).sum())


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


def _settled(
    part: Graph,
    sites: Sequence[Site],
    found: _Shifts,
    values: tuple[Values, Values],
    run: _Run,
) -> Corrections:
    """The corrections that hurt no output: of all, the first half, the first quarter and so on.

    Each op was corrected with those before it in place, so it is the last ones that can be taken
    back. `values` are the judged tensors, float and with all corrections.
    """
    reference, after = values
    judged = list(reference[0])
    before = run.outputs(part, judged)
    kept, undone = dict(found.shifts), dict(found.undone)
    while kept and (worse := worst_fall(reference, before, after)):
        names = list(kept)
        for name in names[len(names) // 2 :]:
            undone[name] = f"{LOWERS}: '{worse}'"
            del kept[name]
        trial = part.copy()
        shift_biases(trial, sites, kept)
        after = run.outputs(trial, judged) if kept else before
    gains = {name: found.gains[name] for name in kept}
    scores = sqnr(reference, before), sqnr(reference, after)
    return Corrections(
        tuple(sites), kept, gains, undone, *scores, len(run.first(len(run.data)).fit)
    )
