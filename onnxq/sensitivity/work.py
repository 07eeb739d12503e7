"""What there is to do: tensors to score, plans to toggle, and the rows that come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from onnxq.calib.ranges import Ranges
from onnxq.errors import ModelError, PlanError
from onnxq.judge.lengths import comparable, varying
from onnxq.judge.metrics import LABEL_FREE
from onnxq.model.graph import Graph, Node, constant_of, node_by_name, within
from onnxq.plan import Plan
from onnxq.run.segments import Shapes, shapes_at
from onnxq.sensitivity import cost
from onnxq.sensitivity.analysis import ranked
from onnxq.sensitivity.options import Options
from onnxq.sensitivity.ranking import Row
from onnxq.sensitivity.readings import Readings
from onnxq.sensitivity.toggles import (
    ALL,
    FLOAT,
    PARTS,
    Part,
    Toggle,
    Unit,
    toggle_name,
    toggled,
)
from onnxq.spec import Edge


@dataclass(frozen=True)
class Work:
    """A prepared graph, its settled plan and ranges, and the units to rank."""

    graph: Graph
    plan: Plan
    ranges: Ranges
    options: Options
    units: tuple[Unit, ...]

    def outputs(self) -> tuple[str, ...]:
        """The model's outputs that are scored, or what stands in for them where they cannot be
        compared; raises PlanError where the options fit none."""
        written = {t.name: t for t in self.graph.outputs if t.inputs and constant_of(t) is None}
        if unknown := [name for name in self.options.outputs if name not in written]:
            raise PlanError(
                f"the model has no output '{unknown[0]}'; it has {', '.join(map(repr, written))}"
            )
        names = self.options.outputs or tuple(written)
        if ":" in self.options.metric:
            return names
        found = comparable([written[name] for name in names], varying(self.graph))
        floats = tuple(t.name for t in found)
        if not floats:
            raise ModelError(
                "no scored output is floating point and of a length that values do not change; "
                "use a metric module:function"
            )
        if self.options.metric == "top1" and len(floats) > 1:
            raise PlanError(
                f"metric 'top1' looks at one output; name it with --output: {', '.join(floats)}"
            )
        return floats

    def scored(self) -> tuple[str, ...]:
        """Every tensor that some toggle is scored at."""
        if self.options.at == "outputs":
            return self.outputs()
        return tuple(dict.fromkeys(name for unit in self.units for name in self._written(unit)))

    def _written(self, unit: Unit) -> tuple[str, ...]:
        written = (self._holders[name].outputs[0].name for name in unit.nodes)
        return tuple(dict.fromkeys(written))

    @cached_property
    def _holders(self) -> Mapping[str, Node]:
        """The node of the main graph that each node is, or is in a body of."""
        return {n.name: node for node in self.graph.nodes for n in within([node])}

    @cached_property
    def _nodes(self) -> Mapping[str, Node]:
        return node_by_name(self.graph)

    def toggles(self, units: Collection[str] | None = None) -> list[Toggle]:
        """Everything to measure for the ranking, or for the rows of some units, by their names."""
        options, scored = self.options, self.scored()
        found = []
        if options.metric not in LABEL_FREE:
            found.append(Toggle(FLOAT, self.plan.only(), scored))
        if options.mode == "one-off":
            found.append(Toggle(ALL, self.plan, scored))
        parts: tuple[Part, ...] = ("both", *PARTS) if options.split else ("both",)
        for unit in self.units:
            if units is not None and unit.name not in units:
                continue
            tensors = scored if options.at == "outputs" else self._written(unit)
            for part in parts:
                plan = toggled(self.graph, self.plan, unit, part, options)
                if plan is not None:
                    found.append(Toggle(toggle_name(unit, part), plan, tensors))
        return found

    def rows(self, found: Readings, inputs: Shapes) -> tuple[Row, ...]:
        """A row for each unit, ranked; `inputs` are the shapes of a sample."""
        shapes = shapes_at(self.graph, inputs)
        rows, readings = [], []
        for unit in self.units:
            reading = found.reading(unit)
            nodes = [self._nodes[name] for name in unit.nodes]
            rows.append(
                Row(
                    rank=0,
                    tied=False,
                    name=unit.name,
                    op=_op(nodes),
                    nodes=unit.nodes,
                    overall=reading.score,
                    outputs=found.outputs(unit),
                    share=0.0,
                    parts=found.parts(unit),
                    sat_ratio=max((self._sat_ratio(node) for node in nodes), default=0.0),
                    parameters=sum(cost.parameters(node) for node in nodes),
                    macs=sum(cost.macs(node, shapes) for node in nodes),
                    samples=len(found.screen.of(unit.name)),
                )
            )
            readings.append(reading)
        return ranked(rows, readings)

    def _sat_ratio(self, node: Node) -> float:
        """The largest among the node's quantized activations."""
        names = [
            self.plan.source.get(t.name, t.name)
            for i, t in enumerate(node.inputs)
            if Edge(node.name, i) in self.plan.edges and constant_of(t) is None
        ]
        return max((self.ranges[name].sat_ratio for name in names), default=0.0)


def _op(nodes: Sequence[Node]) -> str:
    counts = Counter(node.op for node in nodes)
    if len(nodes) == 1:
        return str(nodes[0].op)
    return " + ".join(f"{count} {op}" for op, count in counts.most_common())
