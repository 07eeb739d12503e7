"""The figure of a quantized model by a goal, over the samples that judge it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data import Dataset
from onnxq.errors import ModelError, PlanError
from onnxq.judge import accuracy, metrics
from onnxq.judge.decisions import Decided, Outputs, decisions_of
from onnxq.judge.metrics import AnyMetric, FunctionMetric
from onnxq.judge.parts import floats_of, written_outputs
from onnxq.judge.plain import plainly
from onnxq.ladder.goal import AGREEMENT, COSINE, SQNR, Goal
from onnxq.model import graph as graphs
from onnxq.pipeline import original
from onnxq.pipeline.config import Config
from onnxq.pipeline.opened import Opened
from onnxq.pipeline.quantize import Quantized
from onnxq.pipeline.steps import runtime_of
from onnxq.run.runtime import Runtime


@dataclass(frozen=True)
class Judge:
    """Scores models of one opened model.

    samples: that judge; those that `opened` compares on are some of them. labels: theirs, for top1.
    """

    goal: Goal
    opened: Opened
    samples: Dataset
    config: Config
    labels: Array | None = None

    def check(self) -> None:
        """Raises what the user has to mend before anything is run."""
        if self.goal.scored_by == AGREEMENT:
            decisions_of(self.opened.source.graph, self.goal.outputs)
        elif self.goal.runs_again and self._metric.name == "top1":
            _ = self._classes

    @cached_property
    def reference(self) -> float:
        """The float model's figure; inf for an SQNR."""
        if not self.goal.runs_again:
            return math.inf if self.goal.scored_by == SQNR else 1.0
        return 1.0 if self.goal.scored_by == AGREEMENT else self._score(self._floats())

    def figure(self, made: Quantized) -> float:
        """A quantized model's figure; NaN where it has none.

        Raises ModelError where nothing can be compared, PlanError where a function fails.
        """
        if not self.goal.runs_again:
            return self._compared(made)
        model = graphs.to_proto(made.runs)

        def run(runtime: Runtime) -> float:
            return self._score(accuracy.outputs(model, self.samples, runtime=runtime))

        return plainly(run, runtime_of(self.config))[0]

    def _compared(self, made: Quantized) -> float:
        found = made.agreement
        headline = found.headline
        if headline is None:
            raise ModelError(
                "no float output could be compared, so there is no SQNR; give --agreement, or "
                "--max-drop with --metric module:function"
            )
        if self.goal.scored_by == SQNR:
            return headline.sqnr_db
        assert self.goal.scored_by == COSINE
        return min(a.cosine for n, a in found.judged.items() if f"{n} logits" not in found.judged)

    def _floats(self) -> Iterable[Outputs]:
        """The float model's outputs for the samples that judge; held where few were compared on."""
        where = replace(runtime_of(self.config), plain=True)
        if self.samples is self.opened.check:
            return self.opened.side.at(where).outputs
        return accuracy.outputs(original.reference(self.opened.source), self.samples, runtime=where)

    def _score(self, outputs: Iterable[Outputs]) -> float:
        if self.goal.scored_by == AGREEMENT:
            return self._decided.agreement(outputs)
        metric = self._metric
        if isinstance(metric, FunctionMetric):
            return metric.evaluate(outputs)[0]
        name = self._classes
        rows = [metric.sums(i, x[name], x[name]) for i, x in enumerate(outputs)]
        return float(metric.score(np.sum(rows, axis=0)))

    @cached_property
    def _decided(self) -> Decided:
        return Decided.by(self.opened.source.graph, self._floats(), self.goal.outputs)

    @cached_property
    def _metric(self) -> AnyMetric:
        goal = self.goal
        return metrics.metric_of(goal.scored_by, len(self.samples), self.labels, goal.direction)

    @cached_property
    def _classes(self) -> str:
        """The output that top1 looks at; raises PlanError for none or several."""
        graph, asked = self.opened.source.graph, self.goal.outputs
        names = asked or [t.name for t in floats_of(graph)]
        written_outputs(graph, asked)
        if len(names) != 1:
            said = ", ".join(names) or "none of floats"
            raise PlanError(f"metric 'top1' looks at one output; name it with --output: {said}")
        return names[0]
