"""Choices of how groups are scaled, tried at the outputs.

A choice says how strongly each group is scaled. Ranges are read once for each strength, with all
groups scaled by it: those of a group's tensors depend on its own strength alone, as every graph
computes the same, so the ranges of any choice can be put together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from onnxq.calib.observed import observed, settle
from onnxq.calib.ranges import Range, Ranges
from onnxq.graph import Graph
from onnxq.recover.draft import Bench, Draft, Values
from onnxq.recover.groups import Group, scaled

Array = npt.NDArray[Any]
Choice = Mapping[Group, float]  # group -> strength; a group that is missing is left alone


@dataclass(frozen=True)
class Trial:
    """A choice and what it does: the judged tensors on the held-out samples, and the mean of their
    SQNRs in dB."""

    choice: Choice
    values: Values
    score: float


@dataclass(frozen=True)
class Table:
    """What any choice is made from: the scales of each group by strength, and the ranges of all
    tensors by strength, 0 being the graph as it is."""

    bench: Bench
    graph: Graph
    scales: Mapping[tuple[Group, float], Array]
    ranges: Mapping[float, Ranges]

    def graph_of(self, choice: Choice) -> Graph:
        """The graph scaled by a choice."""
        return scaled(self.graph, {g: self.scales[g, s] for g, s in choice.items()})

    def run(self, choice: Choice) -> Trial:
        """What a choice does at the outputs."""
        graph, plan = self.graph_of(choice), self.bench.plan
        tensors = dict(self.ranges[0.0].tensors)
        for group, strength in choice.items():
            for name in group.scaled:
                if found := self.ranges[strength].tensors.get(name):
                    tensors[name] = found
        needed = {name: tensors[name] for name in observed(graph, plan)}
        return self._judged(graph, replace(self.ranges[0.0], tensors=needed), choice)

    def run_afresh(self, choice: Choice) -> Trial:
        """The same with ranges that are read on the graph of the choice itself."""
        graph = self.graph_of(choice)
        return self._judged(graph, self.bench.ranges(graph), choice)

    def range_of(self, group: Group, strength: float) -> Range:
        """The range of what the group's readers read."""
        name = group.read if strength else group.tensor
        return self.ranges[strength][self.bench.plan.source.get(name, name)]

    def _judged(self, graph: Graph, ranges: Ranges, choice: Choice) -> Trial:
        values = self.bench.outputs(Draft(graph, ranges))
        sqnr = self.bench.sqnr(values)
        return Trial(choice, values, math.fsum(sqnr.values()) / len(sqnr))


def tabulate(bench: Bench, graph: Graph, scales: Mapping[tuple[Group, float], Array]) -> Table:
    """The table of a graph whose groups have `scales` by strength. Nodes that read nothing but
    zeros have no range; its bench leaves them float."""
    ranges = {0.0: bench.ranges(graph)}
    plan, _ = settle(graph, bench.plan, ranges[0.0])
    if plan is not bench.plan:
        bench = replace(bench, plan=plan)
    strengths = dict.fromkeys(strength for _, strength in scales)
    for strength in strengths:
        if strength:
            chosen = {g: s for (g, its), s in scales.items() if its == strength}
            ranges[strength] = bench.ranges(scaled(graph, chosen))
    return Table(bench, graph, scales, ranges)
