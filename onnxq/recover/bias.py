"""Bias correction: give each channel back the mean that quantization took from it.

For every channel of a quantized op with output t, and y = f(t) the tensor that the next layer reads
(f: its activation function, if there is one), find the shift d of the bias with

    mean(f(t_int8 + d)) = mean(f(t_float))        over samples and positions

in the order of the graph, the ops before it being corrected already (see `shifts`). Compared before
the activation instead, depthwise networks get worse.

Half of the samples are not fitted to: they judge. An op is left alone if its shift hardly brings
their means closer: late in a network, where a sample has few positions, most shifts are chance.
Where an output is worse in the end, first the shifts that reach it alone are taken back, and then
the last half of all; where that is not enough, all of them.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(2019), section 4.2 and appendix D; there in data-free form, before the activation function.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data import Dataset
from onnxq.calib.holdout import content_order
from onnxq.errors import ModelError
from onnxq.judge.jury import Jury, each
from onnxq.judge.parts import judged_tensors, score_parts
from onnxq.judge.verdict import Errors, gathered, reached, sqnr, sums
from onnxq.model.graph import Graph
from onnxq.plan import Plan
from onnxq.progress import Count
from onnxq.recover.channel_means import float_means
from onnxq.recover.draft import FEWEST, SAMPLES
from onnxq.recover.shifts import Batch, Found, correct
from onnxq.recover.sites import Site, find_sites, shift_biases
from onnxq.run import runtime as ort
from onnxq.run import segments
from onnxq.run.replay import Replay, with_float_weights

HELD_OUT = 2  # every other sample judges: class scores scatter by several dB from image to image
KEPT_BYTES = 24 << 20  # of tensors kept between two ops, of all samples together
TRIALS = 2  # of shifts, all and then fewer, before none is left
LOWERS = "does not raise the SQNR of an output"


@dataclass(frozen=True)
class Corrections:
    """What is added to the biases.

    sites: where a bias could be corrected. shifts: node -> one float32 value a channel. gains: node
    -> by how many dB the square of the gap between the means falls, on samples that judge. undone:
    node -> why it has no shift. before, after: output, or part of one -> SQNR in dB on judging
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
    progress: Count | None = None,
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
        means, jury = _float_side(graph, sites, judged, chosen, replay.runtime, workers)
        ort.release_free_memory()
        found = Found()
        replay.start(chosen)
        for k, count in enumerate(_counts(replay, chosen)[: len(sites)]):
            correct(replay, k, sites[k], means[k], _first(count, len(chosen)), found, pool)
            if progress is not None:
                progress(k + 1, len(sites))
        held = range(_judges(len(chosen)))
        after = gathered(replay.finish(held, pool, lambda i, x: sums(jury.reference[i], x)))
        replay.live.clear()
        replay.sessions.clear()
        ort.release_free_memory()
    return _settled(part, sites, found, after, jury, len(_first(len(chosen), len(chosen)).fit))


def _first(count: int, total: int) -> Batch:
    """`count` of `total` samples, divided like all of them: the first judge."""
    held = range(_judges(count))
    start = _judges(total) if total > 1 else 0
    return Batch(held, range(start, start + max(1, count - len(held))))


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
    graph: Graph,
    sites: Sequence[Site],
    judged: Sequence[str],
    data: Dataset,
    runtime: ort.Runtime,
    workers: int,
) -> tuple[list[Array], Jury]:
    """Of the float model: the means that each site compares, shape (samples, C), and the jury."""
    held = range(_judges(len(data)))
    model = float_means(graph, sites, judged)
    means = [t.name for t in model.outputs][len(judged) :]

    def read(i: int, values: Mapping[str, Array]) -> tuple[list[Array], dict[str, Array]]:
        return [values[m] for m in means], {n: values[n] for n in judged} if i in held else {}

    rows = each(model, data, read, runtime, workers)
    stacked = [np.stack([row[k] for row, _ in rows]).astype(np.float64) for k in range(len(sites))]
    reference = [values for _, values in rows[: len(held)]]
    samples = data.select(list(held))
    return stacked, Jury(samples, reference, score_parts(graph), runtime, workers)


def _settled(
    part: Graph, sites: Sequence[Site], found: Found, after: Errors, jury: Jury, fitted: int
) -> Corrections:
    """The corrections that hurt no output. `after` are the errors with all of them."""
    before = jury.errors(part) if found.shifts else after
    biased = {s.node: s.biased for s in sites if s.node in found.shifts}
    ahead = reached(part, biased.values(), list(after))
    reach = {node: ahead[name] for node, name in biased.items()}
    kept, undone, trials = list(found.shifts), dict(found.undone), 0
    while kept and (worse := jury.worst_fall(before, after)):
        trials += 1
        fewer = _fewer(kept, reach, worse) if trials < TRIALS else []
        undone |= {name: f"{LOWERS}: '{worse}'" for name in kept if name not in fewer}
        kept = fewer
        trial = part.copy()
        shift_biases(trial, sites, {name: found.shifts[name] for name in kept})
        after = jury.errors(trial) if kept else before
    shifts = {name: found.shifts[name] for name in kept}
    gains = {name: found.gains[name] for name in kept}
    return Corrections(tuple(sites), shifts, gains, undone, sqnr(before), sqnr(after), fitted)


def _fewer(kept: Sequence[str], reach: Mapping[str, Collection[str]], worse: str) -> list[str]:
    """Without the ops that reach the output `worse` alone, such as a detector's class head; where
    all do or none does, without the last half: each was corrected with those before it in place."""
    shared = [name for name in kept if reach[name] != {worse}]
    return shared if 0 < len(shared) < len(kept) else list(kept[: len(kept) // 2])
