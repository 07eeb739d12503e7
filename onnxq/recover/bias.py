"""Bias correction: give each channel back the mean that quantization took from it.

For every channel of a quantized op with output t, and y = f(t) the tensor that the next layer reads
(f: its activation function, if there is one), find the shift d of the bias with

    mean(f(t_int8 + d)) = mean(f(t_float))        over samples and positions

in the order of the graph, the ops before it being corrected already (see `shifts`). Compared before
the activation instead, depthwise networks get worse.

Half of the samples are not fitted to: they judge. An op is left alone if its shift hardly brings
their means closer: late in a network, where a sample has few positions, most shifts are chance.
Where an output is worse in the end, first the shifts that reach it alone are taken back, then all
that reach it; where all do, the last half of all; where that is not enough, all of them. A few
judges come first: where they leave no hope, the others are not asked.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(2019), section 4.2 and appendix D; there in data-free form, before the activation function.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from onnxq.arrays import Array, Samples
from onnxq.errors import ModelError
from onnxq.judge.jury import Jury
from onnxq.judge.verdict import Errors, Sums, gathered, reached, sqnr
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.recover.channel_means import float_means
from onnxq.recover.draft import FEWEST, Bench, Draft, Outcome
from onnxq.recover.keeping import Kept, keep
from onnxq.recover.shifts import Batch, Corrector, Found
from onnxq.recover.sites import Site, find_sites, shift_biases
from onnxq.run import over, segments
from onnxq.run import runtime as ort
from onnxq.run.over import Outputs
from onnxq.run.replay import Replay

HELD_OUT = 2  # every other sample judges: class scores scatter by several dB from image to image
KEPT_BYTES = 24 << 20  # of tensors kept between two ops, of all samples together
TRIALS = 3  # of shifts, all and then fewer, before none is left
TITLE = "bias correction"

Shifts = Mapping[Site, Array]


def correct_biases(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with shifts of the biases that bring the channel means of its Q/DQ form back to
    those of its float graph, added to the shifts that it has, and what they brought.

    Raises ModelError for a model that cannot be run.
    """
    shifts, outcome = corrections(bench, draft.graph, bench.quantized(draft))
    added = {site: shift + draft.shifts.get(site, 0) for site, shift in shifts.items()}
    return (replace(draft, shifts={**draft.shifts, **added}) if shifts else draft), outcome


def corrections(bench: Bench, graph: Graph, quantized: Graph) -> tuple[Shifts, Outcome]:
    """The shifts that bring the channel means of `quantized`, the Q/DQ form of `graph` in float32
    with weights as floats, back to those of `graph`, and what they bring."""
    if not bench.judged or not len(bench.data):
        return {}, Outcome(TITLE)
    part = segments.restrict(quantized, bench.judged)
    sites = find_sites(graph, bench.plan, [node.name for node in part.nodes])
    if not sites:
        return {}, Outcome(TITLE)
    try:
        replay = Replay(part, [site.biased for site in sites], bench.judged, bench.runtime)
    except ModelError as e:
        return {}, Outcome(TITLE, undone={site.node: str(e) for site in sites})
    total = len(bench.chosen)
    batches = [_first(k, total) for k in _counts(replay, bench.chosen)[: len(sites)]]
    judges = range(_judges(total))
    floats = _FloatSide(bench, float_means(graph, sites, bench.judged), judges)
    floats.read({*judges[:FEWEST], *(i for b in batches for i in (*b.held, *b.fit))})
    jury = Jury.of(graph, bench.chosen, floats.outputs, bench.runtime, bench.workers)
    ort.release_free_memory()
    with ThreadPoolExecutor(bench.workers, "correct") as pool:
        corrector = Corrector(replay, pool)
        replay.start(bench.chosen)
        for k, (site, batch) in enumerate(zip(sites, batches, strict=True)):
            wanted = {i: floats.means[i][k] for i in (*batch.held, *batch.fit)}
            corrector.correct(k, site, wanted, batch)
            bench.progress(k + 1, len(sites))

        def finished(samples: Sequence[int]) -> list[Sums]:
            floats.read(samples)
            sums = replay.finish(samples, pool, jury.sums)
            if judges[-1] in samples:
                replay.clear()
            return sums

        trials = _Trials(part, corrector.found, jury, finished)
        kept, notes = trials.search(judges, [i for i in judges if replay.at[i] == len(sites)])
    ort.release_free_memory()
    shifts = {site: corrector.found.shifts[site] for site in kept.items}
    return shifts, trials.outcome(kept, notes, len(_first(total, total).fit))


def _first(count: int, total: int) -> Batch:
    """`count` of `total` samples, divided like all of them: the first judge."""
    held = range(_judges(count))
    start = _judges(total) if total > 1 else 0
    return Batch(held, range(start, start + max(1, count - len(held))))


def _judges(count: int) -> int:
    """How many of `count` samples judge."""
    return max(1, count // HELD_OUT)


def _counts(replay: Replay, data: Samples) -> list[int]:
    """For each segment how many samples: as many as fit into `KEPT_BYTES` from there on.

    Large tensors have many positions, and so need few samples; the others catch up later.
    """
    kept = replay.kept_bytes(data.sample(0))
    ahead = list(accumulate(reversed(kept), max))[::-1]
    return [min(len(data), max(FEWEST, KEPT_BYTES // max(1, size))) for size in ahead]


class _FloatSide:
    """What the float model gives, sample by sample as it is asked for.

    means: those that each site compares. outputs: the judged tensors, of samples that judge.
    """

    def __init__(self, bench: Bench, model: Graph, judges: Collection[int]) -> None:
        self.bench, self.model, self.judges = bench, model, judges
        self.means: dict[int, list[Array]] = {}
        self.outputs: dict[int, Outputs] = {}

    def read(self, samples: Iterable[int]) -> None:
        """Run the model for those of the samples that it has not seen."""
        missing = sorted(set(samples) - self.means.keys())
        names = self.bench.judged

        def read(k: int, values: Outputs) -> None:
            i = missing[k]
            self.means[i] = [x for name, x in values.items() if name not in names]
            self.outputs[i] = {n: values[n] for n in names} if i in self.judges else {}

        if missing:
            model, data = graphs.to_proto(self.model), self.bench.chosen.select(missing)
            over.each(model, data, read, self.bench.runtime, self.bench.workers)


@dataclass
class _Trials:
    """Shifts that are tried at the outputs, and what each judge said of which."""

    part: Graph
    found: Found
    jury: Jury
    finished: Callable[[Sequence[int]], list[Sums]]
    said: dict[tuple[Site, ...], dict[int, Sums]] = field(default_factory=dict)
    opened: tuple[tuple[Site, ...], Callable[[Sequence[int]], list[Sums]]] | None = None

    def search(
        self, judges: Sequence[int], near: Sequence[int]
    ) -> tuple[Kept[Site], tuple[str, ...]]:
        """The shifts that no output argues against, and what there is to say of that.

        near: judges that stand before the end already. What they hold goes before any other model
        takes memory beside it.
        """
        few = judges[:FEWEST]
        self._errors(tuple(self.found.shifts), sorted({*few, *near}))
        kept = self._kept(few, self.jury.hopeless)
        if kept.items:
            return self._kept(judges, self.jury.worst_fall), ()
        said = f"given up after {len(few)} of {len(judges)} judging samples"
        return kept, (said,) if kept.refused and few != judges else ()

    def _kept(
        self, judges: Sequence[int], worse: Callable[[Errors, Errors], str | None]
    ) -> Kept[Site]:
        shifts = tuple(self.found.shifts)
        self._errors(shifts, judges)
        before = self._errors((), judges)
        return keep([shifts], before, lambda s: self._errors(s, judges), worse, self._fewer, TRIALS)

    def _errors(self, sites: Sequence[Site], judges: Sequence[int]) -> Errors:
        """How far the outputs are off with the shifts of these sites alone."""
        said = self.said.setdefault(tuple(sites), {})
        if missing := [i for i in judges if i not in said]:
            said |= zip(missing, self._judged(tuple(sites))(missing), strict=True)
        return gathered(said[i] for i in judges)

    def _judged(self, sites: tuple[Site, ...]) -> Callable[[Sequence[int]], list[Sums]]:
        if len(sites) == len(self.found.shifts):
            return self.finished
        if self.opened is None or self.opened[0] != sites:
            self.opened = None  # one model at a time
            ort.release_free_memory()
            trial = self.part.copy()
            shift_biases(trial, {site: self.found.shifts[site] for site in sites})
            self.opened = sites, self.jury.opened(trial)
        return self.opened[1]

    def _fewer(self, sites: Sequence[Site], worse: str) -> list[Sequence[Site]]:
        """Without the ops that reach the output `worse` alone, such as a detector's class head;
        where that is no help, those that do not reach it, such as the box head; where all do or
        none does, all but the last half: each was corrected with those before it in place."""
        reach = reached(self.part, [site.biased for site in sites], self.jury.names)
        shared = [site for site in sites if reach[site.biased] != {worse}]
        apart = [site for site in sites if worse not in reach[site.biased]]
        for fewer in (shared, apart):
            if 0 < len(fewer) < len(sites):
                return [fewer]
        return [sites[: len(sites) // 2]] if len(sites) == len(self.found.shifts) else []

    def outcome(self, kept: Kept[Site], notes: tuple[str, ...], fitted: int) -> Outcome:
        """What the shifts that are kept bring."""
        nodes = [site.node for site in kept.items]
        undone = self.found.undone | kept.reasons(lambda site: [site.node])
        gains = {node: self.found.gains[node] for node in nodes}
        sizes = {site.node: np.abs(self.found.shifts[site]).max() for site in kept.items}
        largest = {node: float(f"{size:.4g}") for node, size in sizes.items()}
        facts = {"samples": fitted, "largest_shift": largest}
        scores = sqnr(kept.before), sqnr(kept.after)
        return Outcome(TITLE, gains, undone, *scores, notes, facts)
