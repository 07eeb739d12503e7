"""What is ranked: the one value that says all of an analysis, here and on a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from onnxq.calib.data import Dataset
from onnxq.calib.observed import settle
from onnxq.calib.ranges import Ranges
from onnxq.errors import DataError, ModelError, PlanError
from onnxq.judge.lengths import comparable, varying
from onnxq.judge.metrics import LABEL_FREE, AnyMetric, FunctionMetric
from onnxq.judge.parts import Part as OutputPart
from onnxq.judge.parts import by_output, in_headline, slices_of, written_outputs
from onnxq.judge.ranked import Ranked, outputs_in
from onnxq.judge.rankings import ranked_outputs
from onnxq.model.graph import Graph, Node, constant_of, node_by_name, within
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.pipeline import original
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source as FileSource
from onnxq.pipeline.steps import insert_options, runtime_of
from onnxq.plan import Plan
from onnxq.run.runtime import Runtime
from onnxq.run.segments import shapes_at
from onnxq.sensitivity import cost
from onnxq.sensitivity.options import Options, metric_of
from onnxq.sensitivity.ranking import Row
from onnxq.sensitivity.readings import Readings, ranked
from onnxq.sensitivity.toggles import (
    ALL,
    FLOAT,
    PARTS,
    Part,
    Toggle,
    Unit,
    toggle_name,
    toggled,
    units_of,
)
from onnxq.spec import Edge


class Source(Protocol):
    """A prepared graph and the hash of its model file."""

    @property
    def graph(self) -> Graph: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Analysis:
    """A prepared graph with its settled plan and ranges, the samples, the units to rank and the
    metric, and where and how models run."""

    source: Source
    plan: Plan
    ranges: Ranges
    dataset: Dataset
    options: Options
    config: Config
    units: tuple[Unit, ...]
    metric: AnyMetric

    @property
    def graph(self) -> Graph:
        """The prepared graph."""
        return self.source.graph

    @cached_property
    def runtime(self) -> Runtime:
        """Where models run."""
        return runtime_of(self.config)

    def quantized(self, graph: Graph, plan: Plan) -> Graph:
        """A copy of `graph`, all or part of this graph, with the edges of `plan` quantized."""
        copy = graph.copy()
        if plan.edges:
            insert_qdq(copy, plan, self.ranges.limits, insert_options(self.config))
        return copy

    def file_with(self, tensors: Collection[str]) -> Path | None:
        """The model file, if it has these tensors as outputs."""
        if not isinstance(self.source, FileSource):
            return None
        return original.file_with(self.source, tensors)

    def kept(self, samples: Sequence[int]) -> Sequence[int]:
        """The samples that sums over `samples` are kept under: a function has one result."""
        return [0] if isinstance(self.metric, FunctionMetric) else samples

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The model's outputs that are scored, or what stands in for them where they cannot be
        compared; raises PlanError where the options fit none."""
        written = written_outputs(self.graph, self.options.outputs)
        names = self.options.outputs or tuple(written)
        if isinstance(self.metric, FunctionMetric):
            return names
        rows = outputs_in(self.ranked)
        others = [written[name] for name in names if name not in rows]
        floats = comparable(others, varying(self.graph))
        if not floats and not rows:
            raise ModelError(
                "no scored output has floats at a length that the values do not change; "
                "use a metric module:function"
            )
        scored = (*(t.name for t in floats), *rows)
        if self.options.metric == "top1" and len(scored) > 1:
            raise PlanError(
                f"metric 'top1' looks at one output; name it with --output: {', '.join(scored)}"
            )
        return scored

    @cached_property
    def parts(self) -> Mapping[str, Sequence[OutputPart]]:
        """Output -> the parts that it is scored by, for a metric that compares; else nothing."""
        apart = self.options.apart and self.options.at == "outputs"
        if not apart or self.metric.name not in LABEL_FREE:
            return {}
        return by_output(in_headline(slices_of(self.graph)))

    @cached_property
    def ranked(self) -> Sequence[Ranked]:
        """Scored outputs whose rows are matched before they are compared."""
        if self.options.at != "outputs" or self.metric.name not in LABEL_FREE:
            return ()
        names = self.options.outputs or tuple(written_outputs(self.graph, ()))
        groups = ranked_outputs(self.graph)
        return [group for group in groups if all(r.output in names for r in group.rows)]

    @property
    def scattered(self) -> bool:
        """Whether scores beside boxes are among the parts."""
        return any(part.is_scores for parts in self.parts.values() for part in parts)

    @cached_property
    def scored(self) -> tuple[str, ...]:
        """Every tensor that some toggle is scored at."""
        if self.options.at == "outputs":
            return self.outputs
        return tuple(dict.fromkeys(name for unit in self.units for name in self._written(unit)))

    def _written(self, unit: Unit) -> tuple[str, ...]:
        written = (self._holders[name].outputs[0].name for name in unit.nodes)
        return tuple(dict.fromkeys(written))

    @cached_property
    def _holders(self) -> Mapping[str, Node]:
        """The node of the main graph that each node is, or is in a body of."""
        return {n.name: node for node in self.graph.nodes for n in within([node])}

    @cached_property
    def toggles(self) -> Mapping[str, Toggle]:
        """Everything to measure for the ranking, by name."""
        whole = []
        if self.options.metric not in LABEL_FREE:
            whole.append(Toggle(FLOAT, self.plan.only(), self.scored))
        if self.options.mode == "one-off":
            whole.append(Toggle(ALL, self.plan, self.scored))
        toggles = [*whole, *(toggle for unit in self.units for toggle in self._toggles(unit))]
        return {toggle.name: toggle for toggle in toggles}

    def _toggles(self, unit: Unit) -> list[Toggle]:
        tensors = self.scored if self.options.at == "outputs" else self._written(unit)
        parts: tuple[Part, ...] = ("both", *PARTS) if self.options.split else ("both",)
        mode, weights = self.options.mode, self._weights
        plans = {part: toggled(self.plan, unit, part, mode, weights) for part in parts}
        return [
            Toggle(toggle_name(unit, part), plan, tensors, unit.name)
            for part, plan in plans.items()
            if plan is not None
        ]

    @cached_property
    def _weights(self) -> frozenset[Edge]:
        """The edges of the plan at constants."""
        inputs = {name: node.inputs for name, node in node_by_name(self.graph).items()}
        return frozenset(
            e for e in self.plan.edges if constant_of(inputs[e.node][e.input]) is not None
        )

    def rows(self, readings: Readings) -> tuple[Row, ...]:
        """A row for each unit, ranked."""
        shapes = shapes_at(self.graph, {n: x.shape for n, x in self.dataset.sample(0).items()})
        nodes = node_by_name(self.graph)
        rows, scores = [], []
        for unit in self.units:
            reading, its = readings.reading(unit), [nodes[name] for name in unit.nodes]
            row = Row(
                rank=0,
                tied=False,
                name=unit.name,
                op=_op(its),
                nodes=unit.nodes,
                overall=reading.score,
                outputs=readings.outputs(unit),
                share=0.0,
                parts=readings.parts(unit),
                sat_ratio=max((self._sat_ratio(node) for node in its), default=0.0),
                parameters=sum(cost.parameters(node) for node in its),
                macs=sum(cost.macs(node, shapes) for node in its),
                samples=len(readings.screen.of(unit.name)),
            )
            rows.append(row)
            scores.append(reading)
        return ranked(rows, scores)

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


def analysis_of(
    source: Source, dataset: Dataset, plan: Plan, ranges: Ranges, options: Options, config: Config
) -> Analysis:
    """The analysis; raises as `sensitivity` does."""
    plan.check_model(source.sha256)
    ranges.check_model(source.sha256)
    plan, _ = settle(source.graph, plan, ranges)
    if not plan.edges:
        raise PlanError("the plan quantizes nothing: there is nothing to rank")
    if not len(dataset):
        raise DataError("there are no samples to score; give at least one")
    units = tuple(units_of(source.graph, plan, options))
    metric = metric_of(options, len(dataset))
    analysis = Analysis(source, plan, ranges, dataset, options, config, units, metric)
    if isinstance(source, FileSource):
        original.hold(source, dataset, analysis.runtime)
    return analysis
