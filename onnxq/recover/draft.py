"""A quantized model in the making, and the bench that algorithms are judged on.

    graph --equalize--> graph --smooth--> graph, ranges --scales--> ranges, codes --round--> codes

Each algorithm takes a `Draft` and returns a better one, with an `Outcome`: what it brought. Where
it does harm on samples that it was not fitted to, it returns what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from onnxq.arrays import Array
from onnxq.calib.collect import collect
from onnxq.calib.data import Dataset
from onnxq.calib.holdout import content_order
from onnxq.calib.observed import observed, settle
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.judge.judged import judged_tensors
from onnxq.judge.jury import Jury
from onnxq.judge.verdict import Errors, reached
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.passes.insert_qdq import Codes, InsertOptions, Weight, insert_qdq
from onnxq.plan import Plan
from onnxq.progress import Count, count, stage
from onnxq.recover.sites import Site, shift_biases
from onnxq.run import over, segments
from onnxq.run import runtime as ort
from onnxq.run.replay import float_weights

SAMPLES, HELD_OUT, FEWEST = 32, 4, 4  # at most so many samples; one in four judges, four at least
MOST = 256  # samples of what is asked for by name, and may take longer


@dataclass(frozen=True)
class Draft:
    """A float graph that computes what the source does, and how it is quantized so far.

    ranges: of its activations, None before they are read. codes: of weights that are not simply
    rounded to nearest. shifts: what is added to its biases once it is quantized.
    """

    graph: Graph
    ranges: Ranges | None = None
    codes: Mapping[Weight, Codes] = field(default_factory=dict)
    shifts: Mapping[Site, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What an algorithm brought.

    gains: node (or group of nodes) -> dB at the node. undone: node -> why it was left as it was.
    before, after: judged output -> SQNR in dB on samples that judge. notes: what else to say.
    facts: what this algorithm alone has to report.
    """

    algorithm: str
    gains: Mapping[str, float] = field(default_factory=dict)
    undone: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same, rounded for a report."""
        return {
            "algorithm": self.algorithm,
            "gain_db": {name: round(g, 2) for name, g in self.gains.items()},
            "undone": dict(self.undone),
            "sqnr_db": {
                name: {"before": round(self.before[name], 3), "after": round(after, 3)}
                for name, after in self.after.items()
            },
            "notes": list(self.notes),
            **self.facts,
        }


@dataclass(frozen=True)
class Bench:
    """What algorithms may use: the float graph, its plan, calibration samples, and how Q/DQ is
    written and ranges are read.

    The samples are chosen by what they hold, so that no result depends on their order. max_memory:
    bytes that an algorithm may keep. known: the last graph that was looked at as it is.
    """

    graph: Graph
    plan: Plan
    data: Dataset
    insert: InsertOptions
    read: Callable[[Graph, Stats], Ranges]
    runtime: ort.Runtime = field(default_factory=ort.Runtime)
    workers: int = 2
    max_memory: int = 1 << 30
    progress: Count = count
    known: list[Plain] = field(default_factory=list, init=False, compare=False, repr=False)

    @cached_property
    def chosen(self) -> Dataset:
        """At most `SAMPLES` samples: first those that judge, then those to fit to."""
        return self.data.select(content_order(self.data)[:SAMPLES])

    @cached_property
    def more(self) -> Dataset:
        """At most `MOST` samples: first those of `chosen`, then others to fit to."""
        return self.data.select(content_order(self.data)[:MOST])

    @property
    def held(self) -> range:
        """Indices in `chosen` of the samples that judge: a quarter, of few samples half."""
        count = len(self.chosen)
        return range(max(1, count // HELD_OUT, min(FEWEST, count // 2)))

    @property
    def fit(self) -> range:
        """Indices in `chosen` of the samples to fit to: the others, or the only one."""
        return range(len(self.held) if len(self.chosen) > 1 else 0, len(self.chosen))

    @cached_property
    def searching(self) -> Bench:
        """A bench of the samples to fit to alone: those held out have no say in what is chosen."""
        return replace(self, data=self.chosen.select(list(self.fit)))

    @cached_property
    def judged(self) -> list[str]:
        """Names of the outputs, and parts of outputs, that are judged."""
        return judged_tensors(self.graph)

    @cached_property
    def reach(self) -> dict[str, frozenset[str]]:
        """Node -> the judged tensors that are computed from what it writes."""
        part = segments.reduced(self.graph.copy(), self.judged)
        written = {node.name: node.outputs[0].name for node in part.nodes}
        found = reached(part, written.values(), self.judged)
        return {node: found[tensor] for node, tensor in written.items()}

    def reaches(self, nodes: Iterable[str], output: str) -> bool:
        """Whether a judged tensor is computed from what one of the nodes writes."""
        return any(output in self.reach.get(node, self.judged) for node in nodes)

    @cached_property
    def jury(self) -> Jury:
        """The samples that judge, with what the float graph gives for them."""
        samples = self.chosen.select(list(self.held))
        model = graphs.to_proto(segments.reduced(self.graph.copy(), self.judged))
        reference = over.each(model, samples, lambda _, v: v, self.runtime, self.workers)
        return Jury.of(self.graph, samples, reference, self.runtime, self.workers)

    def ranges(self, graph: Graph) -> Ranges:
        """The ranges of a graph's activations over the samples to fit to."""
        fitted = self.chosen.select(list(self.fit))
        names = observed(graph, self.plan)
        stats = collect(graph, names, fitted, runtime=self.runtime, workers=self.workers)
        return self.read(graph, stats)

    def plain(self, graph: Graph) -> Plain:
        """A graph quantized as it is, whose ranges several algorithms ask for."""
        if not self.known or self.known[0].graph is not graph:
            ranges = self.ranges(graph)
            plan, _ = settle(graph, self.plan, ranges)
            bench = self if plan is self.plan else replace(self, plan=plan)
            self.known[:] = [Plain(graph, bench, ranges)]
        return self.known[0]

    def quantized(self, draft: Draft) -> Graph:
        """The draft with its Q/DQ and its shifts; rounded weights are held as floats, which is
        faster to run."""
        if draft.ranges is None:
            raise ValueError("a draft is quantized after its ranges are read")
        copy = draft.graph.copy()
        codes = {**self.insert.codes, **draft.codes}
        options = replace(self.insert, weights_as="int", codes=codes)
        with stage("insert"):
            insert_qdq(copy, self.plan, draft.ranges.limits, options)
            shift_biases(copy, draft.shifts)
            return float_weights(copy)

    def errors(self, draft: Draft) -> Errors:
        """How far the judged tensors of the quantized draft are from those of the float graph."""
        return self.jury.errors(segments.reduced(self.quantized(draft), self.judged))


@dataclass(frozen=True)
class Plain:
    """A graph quantized as it is; bench: one whose plan leaves float what reads nothing but zeros,
    and so has no range."""

    graph: Graph
    bench: Bench
    ranges: Ranges

    @cached_property
    def errors(self) -> Errors:
        """How far its judged tensors are from those of the float graph."""
        return self.bench.errors(Draft(self.graph, self.ranges))
