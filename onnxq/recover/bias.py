"""Bias correction: give each channel back the mean that quantization took from it.

For every channel of a quantized op with output t, and y = f(t) the tensor that the next layer reads
(f: its activation function, if there is one), find the shift d of the bias with

    mean(f(t_int8 + d)) = mean(f(t_float))        over samples and positions

in the order of the graph, the ops before it being corrected already (see `shifts`). Compared before
the activation instead, depthwise networks get worse.

Half of the samples are not fitted to: they judge. An op is left alone if its shift hardly brings
their means closer: late in a network, where a sample has few positions, most shifts are chance.
Where an output is worse in the end, first the shifts that reach it alone are taken back, and then
the last half of all, again and again; those that stay lower no output.

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
from onnxq.plan import Plan
from onnxq.recover.channel_means import float_means
from onnxq.recover.draft import FEWEST, SAMPLES
from onnxq.recover.judge import Values, judged_tensors, reached, score_parts, sqnr, worst_fall
from onnxq.recover.replay import Replay, with_float_weights
from onnxq.recover.shifts import Batch, Found, correct
from onnxq.recover.sites import Site, find_sites, shift_biases

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]

HELD_OUT = 2  # every other sample judges: class scores scatter by several dB from image to image
KEPT_BYTES = 24 << 20  # of tensors kept between two ops, of all samples together
TRIALS = 4  # how often shifts are taken back before none is left
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
        run = _Run(chosen, replay.runtime, pool, score_parts(graph))
        means, reference = _float_side(graph, sites, judged, run)
        ort.release_free_memory()
        found = Found()
        replay.start(chosen)
        for k, count in enumerate(_counts(replay, chosen)[: len(sites)]):
            correct(replay, k, sites[k], means[k], run.first(count), found, pool)
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
    """Samples in the order of what they hold, the first of which judge; what runs them. scores:
    the judged tensors that are scores beside other parts."""

    data: Dataset
    runtime: ort.Runtime
    pool: ThreadPoolExecutor
    scores: frozenset[str]

    @property
    def held(self) -> range:
        return range(_judges(len(self.data)))

    def first(self, count: int) -> Batch:
        """`count` samples, divided like all of them."""
        held = range(_judges(count))
        start = len(self.held) if len(self.data) > 1 else 0
        return Batch(held, range(start, start + max(1, count - len(held))))

    def outputs(self, model: Graph, names: Sequence[str]) -> list[dict[str, Array]]:
        """The outputs `names` of a graph for each held-out sample."""
        session = ort.session(graphs.to_proto(model), self.runtime, threads=1)
        wanted = {i.name for i in session.get_inputs()}

        def run(i: int) -> dict[str, Array]:
            feeds = {name: x for name, x in self.data.sample(i).items() if name in wanted}
            return dict(zip(names, ort.run(session, names, feeds), strict=True))

        return [run(i) for i in self.held]


def _judges(count: int) -> int:
    """How many of `count` samples judge."""
    return max(1, count // HELD_OUT)


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


def _settled(
    part: Graph, sites: Sequence[Site], found: Found, values: tuple[Values, Values], run: _Run
) -> Corrections:
    """The corrections that hurt no output. `values` are the judged tensors, float and with all."""
    reference, after = values
    judged = list(reference[0])
    before = run.outputs(part, judged) if found.shifts else after
    reach = {s.node: reached(part, s.biased, judged) for s in sites if s.node in found.shifts}
    kept, undone, trials = list(found.shifts), dict(found.undone), 0
    while kept and (worse := worst_fall(reference, before, after, run.scores)):
        trials += 1
        fewer = _fewer(kept, reach, worse) if trials < TRIALS else []
        undone |= {name: f"{LOWERS}: '{worse}'" for name in kept if name not in fewer}
        kept = fewer
        trial = part.copy()
        shift_biases(trial, sites, {name: found.shifts[name] for name in kept})
        after = run.outputs(trial, judged) if kept else before
    shifts = {name: found.shifts[name] for name in kept}
    gains = {name: found.gains[name] for name in kept}
    scores = sqnr(reference, before), sqnr(reference, after)
    fitted = len(run.first(len(run.data)).fit)
    return Corrections(tuple(sites), shifts, gains, undone, *scores, fitted)


def _fewer(kept: Sequence[str], reach: Mapping[str, set[str]], worse: str) -> list[str]:
    """Without the ops that reach the output `worse` alone, such as a detector's class head; where
    all do or none does, without the last half: each was corrected with those before it in place."""
    shared = [name for name in kept if reach[name] != {worse}]
    return shared if 0 < len(shared) < len(kept) else list(kept[: len(kept) // 2])
