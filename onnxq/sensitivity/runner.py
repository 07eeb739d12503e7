"""What runs a model under a plan: the interface, and the slow, plain way.

`Whole` inserts Q/DQ into the whole graph for every toggle and runs a new session over every sample.
It is what a user of `quantize` gets, and what the fast way is checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import cached_property
from typing import Protocol

from onnxq.model import graph as graphs
from onnxq.model.graph import within
from onnxq.plan import Plan
from onnxq.run import over, segments
from onnxq.run.over import Loaded
from onnxq.run.over import Outputs as Outputs
from onnxq.sensitivity.analysis import Analysis
from onnxq.sensitivity.toggles import Toggle

Variant = Callable[[Sequence[int]], list[Outputs]]  # held samples -> their tensors


class Runner(Protocol):
    """Runs samples under the plans of toggles."""

    @property
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


class Whole:
    """A new session over the whole model for every toggle; `tensors` are all that is scored."""

    def __init__(self, analysis: Analysis, tensors: tuple[str, ...]) -> None:
        self.analysis = analysis
        self._held: dict[int, Outputs] = {}
        file = analysis.file_with(tensors)
        if file is None:
            self._float = self._under(Plan("", "", {}), tensors)
        else:
            self._float = over.loaded(file, analysis.runtime, 1, tensors)

    def _under(self, plan: Plan, tensors: tuple[str, ...]) -> Loaded:
        part = segments.restrict(self.analysis.graph, tensors)
        there = restricted(plan, {node.name for node in within(part.nodes)})
        model = graphs.to_proto(self.analysis.quantized(part, there))
        return over.loaded(model, self.analysis.runtime, 1, tensors)

    def _run(self, i: int) -> Outputs:
        return self._float(self.analysis.dataset.sample(i))

    @cached_property
    def footprint(self) -> int:
        """Bytes of the scored tensors of the first sample."""
        return sum(x.nbytes for x in self._run(0).values())

    def hold(self, samples: Sequence[int], pool: Executor) -> None:
        """Keep the float model's scored tensors for these samples."""
        if list(self._held) == list(samples):
            return
        self._held.clear()
        self._held.update(zip(samples, pool.map(self._run, samples), strict=True))

    def reference(self, i: int) -> Outputs:
        """The float model's scored tensors."""
        return self._held[i]

    def variant(self, toggle: Toggle) -> Variant:
        """A session over the whole graph with the toggle's Q/DQ."""
        run = self._under(toggle.plan, toggle.tensors)
        return lambda samples: [run(self.analysis.dataset.sample(i)) for i in samples]


def restricted(plan: Plan, nodes: set[str]) -> Plan:
    """The plan's edges at `nodes`."""
    return replace(plan, edges={e: s for e, s in plan.edges.items() if e.node in nodes})
