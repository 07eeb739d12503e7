"""What runs a model under a plan: the interface, and the slow, plain way.

`Whole` inserts Q/DQ into the whole graph for every toggle and runs a new session over every sample.
It is what a user of `quantize` gets, and what the fast way is checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from onnxq.arrays import Array, Samples
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph, within
from onnxq.numerics import Limit
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.plan import Plan
from onnxq.run import over, segments
from onnxq.run import runtime as ort
from onnxq.sensitivity.options import Execution
from onnxq.sensitivity.toggles import Toggle

Outputs = Mapping[str, Array]
Variant = Callable[[Sequence[int]], list[Outputs]]  # held samples -> their tensors


class Runner(Protocol):
    """Runs samples under the plans of toggles."""

    def footprint(self) -> int:
        """Bytes that holding one sample takes."""
        ...

    def hold(self, samples: Sequence[int], pool: Executor) -> None:
        """Run these samples untoggled and keep what toggles need, in place of those before."""
        ...

    def reference(self, i: int) -> Outputs:
        """What the float model writes for sample `i`, which is held: every scored tensor; the file
        where it has them."""
        ...

    def variant(self, toggle: Toggle) -> Variant:
        """The model under the toggle's plan: held samples -> the toggle's tensors by name."""
        ...


@dataclass(frozen=True)
class Subject:
    """What is analyzed: a prepared graph, the ranges of its tensors, the samples, and the names of
    all tensors that are scored; the file of the graph, whose outputs these are, if they are."""

    graph: Graph
    limits: Mapping[str, Limit]
    data: Samples
    tensors: tuple[str, ...]
    file: Path | None = None

    def quantized(self, graph: Graph, plan: Plan, execution: Execution) -> Graph:
        """A copy of `graph`, all or part of this graph, with the edges of `plan` quantized."""
        copy = graph.copy()
        if plan.edges:
            insert_qdq(copy, plan, self.limits, execution.insert)
        return copy

    def feed(self, i: int) -> dict[str, Array]:
        """Sample `i`, contiguous."""
        return {name: np.ascontiguousarray(x) for name, x in self.data.sample(i).items()}


class Whole:
    """A new session over the whole model for every toggle."""

    def __init__(self, subject: Subject, execution: Execution) -> None:
        self.subject, self.execution = subject, execution
        self._held: dict[int, Outputs] = {}
        if subject.file is None:
            self._float = self._model(Plan("", "", {}), subject.tensors)
        else:
            self._float = self._run_of(subject.file, subject.tensors)

    def _model(self, plan: Plan, tensors: tuple[str, ...]) -> Callable[[int], Outputs]:
        part = segments.restrict(self.subject.graph, tensors)
        plan = restricted(plan, {node.name for node in within(part.nodes)})
        graph = self.subject.quantized(part, plan, self.execution)
        return self._run_of(graphs.to_proto(graph), tensors)

    def _run_of(self, model: ort.Model, tensors: tuple[str, ...]) -> Callable[[int], Outputs]:
        run = over.loaded(model, self.execution.runtime, 1, tensors)
        return lambda i: run(self.subject.data.sample(i))

    def footprint(self) -> int:
        """Bytes of the scored tensors of the first sample."""
        return sum(x.nbytes for x in self._float(0).values())

    def hold(self, samples: Sequence[int], pool: Executor) -> None:
        """Keep the float model's scored tensors for these samples."""
        if list(self._held) == list(samples):
            return
        self._held.clear()
        self._held.update(zip(samples, pool.map(self._float, samples), strict=True))

    def reference(self, i: int) -> Outputs:
        """The float model's scored tensors."""
        return self._held[i]

    def variant(self, toggle: Toggle) -> Variant:
        """A session over the whole graph with the toggle's Q/DQ."""
        run = self._model(toggle.plan, toggle.tensors)
        return lambda samples: [run(i) for i in samples]


def restricted(plan: Plan, nodes: set[str]) -> Plan:
    """The plan's edges at `nodes`."""
    return replace(plan, edges={e: s for e, s in plan.edges.items() if e.node in nodes})
