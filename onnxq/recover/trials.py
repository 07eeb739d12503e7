"""Choices of how groups are scaled, tried at the outputs.

A choice says how strongly each group is scaled. Ranges are read once for each strength, with all
groups scaled by it: those of a group's tensors depend on its own strength alone, as every graph
computes the same, so the ranges of any choice can be put together.

What does best among many on a few samples does so in part by luck: on ResNet-20 a choice gained
1.5 dB on the 8 samples that it was chosen by and nothing on 1000 others. So choices are compared on
a part of the samples to fit to (`Bench.searching`), and those held out say once whether it stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from onnxq.arrays import Array
from onnxq.calib.observed import observed
from onnxq.calib.ranges import Range, Ranges
from onnxq.judge.verdict import Errors, sqnr
from onnxq.model.graph import Graph
from onnxq.recover.draft import Bench, Draft, Plain
from onnxq.recover.groups import Group, scaled

Choice = Mapping[Group, float]  # group -> strength; a group that is missing is left alone

NOTHING = "brings nothing at the outputs"
LEAST = 0.1  # dB on the average over the outputs for which a graph is changed


@dataclass(frozen=True)
class Tried:
    """A choice and what it does: the errors of the judged tensors, and the mean of their
    SQNRs in dB."""

    choice: Choice
    errors: Errors
    score: float


@dataclass(frozen=True)
class Strengths:
    """What any choice is made from: the graph as it is, the scales of each group by strength, and
    the ranges of all tensors by strength, 0 being the graph as it is."""

    plain: Plain
    scales: Mapping[tuple[Group, float], Array]
    ranges: Mapping[float, Ranges]

    @property
    def bench(self) -> Bench:
        """The bench that choices are tried on."""
        return self.plain.bench

    @property
    def graph(self) -> Graph:
        """The graph as it is."""
        return self.plain.graph

    def graph_of(self, choice: Choice) -> Graph:
        """The graph scaled by a choice."""
        return scaled(self.graph, {g: self.scales[g, s] for g, s in choice.items()})

    def run(self, choice: Choice) -> Tried:
        """What a choice does at the outputs."""
        if not choice:
            return Tried(choice, self.plain.errors, mean_of(sqnr(self.plain.errors)))
        graph, plan = self.graph_of(choice), self.bench.plan
        tensors = dict(self.ranges[0.0].tensors)
        for group, strength in choice.items():
            for name in group.scaled:
                if found := self.ranges[strength].tensors.get(name):
                    tensors[name] = found
        needed = {name: tensors[name] for name in observed(graph, plan)}
        errors = self.bench.errors(Draft(graph, replace(self.ranges[0.0], tensors=needed)))
        return Tried(choice, errors, mean_of(sqnr(errors)))

    def range_of(self, group: Group, strength: float) -> Range:
        """The range of what the group's readers read."""
        name = group.read if strength else group.tensor
        return self.ranges[strength][self.bench.plan.source.get(name, name)]


@dataclass(frozen=True)
class Judgement:
    """SQNR in dB of each judged tensor before and after a change; why the change goes, or None."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    against: str | None


def judge(bench: Bench, graph: Graph, changed: Graph) -> Judgement:
    """Whether a changed graph is better quantized, by samples that it was not chosen by."""
    plain = bench.plain(graph)
    bench, before = plain.bench, plain.errors
    if changed is graph:
        return Judgement(sqnr(before), sqnr(before), NOTHING)
    after = bench.errors(Draft(changed, bench.ranges(changed)))
    verdict = sqnr(before), sqnr(after)
    against = None
    if fallen := bench.jury.worst_fall(before, after):
        against = f"does not raise the SQNR of '{fallen}' on the samples that judge it"
    elif mean_of(verdict[1]) < mean_of(verdict[0]) + LEAST:
        against = f"brings less than {LEAST} dB on the samples that judge it"
    return Judgement(verdict[0], verdict[0] if against else verdict[1], against)


def mean_of(sqnr: Mapping[str, float]) -> float:
    """The mean in dB; -inf of none."""
    return math.fsum(sqnr.values()) / len(sqnr) if sqnr else -math.inf


def tabulate(bench: Bench, graph: Graph, scales: Mapping[tuple[Group, float], Array]) -> Strengths:
    """The table of a graph whose groups have `scales` by strength. Nodes that read nothing but
    zeros have no range; its bench leaves them float."""
    plain = bench.plain(graph)
    ranges = {0.0: plain.ranges}
    strengths = dict.fromkeys(strength for _, strength in scales)
    for strength in strengths:
        if strength:
            chosen = {g: s for (g, its), s in scales.items() if its == strength}
            ranges[strength] = plain.bench.ranges(scaled(graph, chosen))
    return Strengths(plain, scales, ranges)
