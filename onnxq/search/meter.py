"""What a plan really does: its Q/DQ inserted as `quantize` does, the whole model run, scored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnxq.calib.data import Dataset
from onnxq.calib.observed import observed, settle
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.errors import ModelError
from onnxq.judge import accuracy
from onnxq.judge.metrics import AnyMetric, FunctionMetric, Sums, Top1, sums_of
from onnxq.judge.parts import Part, ranked_in
from onnxq.judge.plain import plainly
from onnxq.judge.ranked import Found, line_up, outputs_in
from onnxq.judge.spread import scores, stderr, worst
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.pipeline import original, steps
from onnxq.pipeline import recoveries as stages
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.recover.sites import shift_biases
from onnxq.run.over import Outputs, loaded
from onnxq.run.runtime import Model
from onnxq.run.side_by_side import side_by_side

TIMED_RUNS, TIMED_SAMPLES = 9, 2


@dataclass(frozen=True)
class Measured:
    """A score at the worst part, its standard error (None: not known), and each part's score.

    trouble: why a plain session could not run the model; "" where one did."""

    score: float
    stderr: float | None
    parts: Mapping[str, float]
    trouble: str = ""


@dataclass
class Meter:
    """Measures plans of one prepared model.

    stats: of its tensors; what a plan needs besides is observed when it is measured. parts: what is
    scored. check: the samples to score on. rest: those that ranges and recoveries come from.
    """

    source: steps.Source
    stats: Stats
    metric: AnyMetric
    parts: Sequence[Part]
    check: Dataset
    rest: Dataset
    config: Config

    def ranges(self, plan: Plan) -> Ranges:
        """The ranges of a plan's tensors, each for the type in which the plan has it."""
        seen = self.stats.histograms
        if not seen.keys() >= set(observed(self.source.graph, plan)):
            more = steps.calibrate(self.source, plan, self.rest, self.config)
            self.stats = replace(self.stats, histograms={**more.histograms, **seen})
        return steps.read(self.source, plan, self.stats, self.config.method)

    def model(self, plan: Plan) -> Graph:
        """The quantized model as `quantize` makes it; in FP32 where the rest is to be BF16, which
        ONNX Runtime cannot run.
        """
        source, _ = stages.reshape(self.source, plan, self.rest, self.config)
        if source is self.source:
            ranges = self.ranges(plan)
        else:  # another graph has other ranges
            stats = steps.calibrate(source, plan, self.rest, self.config)
            ranges = steps.read(source, plan, stats, self.config.method)
        plan, _ = settle(source.graph, plan, ranges)
        draft, _ = stages.refine(source, plan, ranges, self.rest, self.config)
        graph = steps.insert(source, plan, draft.ranges or ranges, self.config, draft.codes)
        shift_biases(graph, draft.shifts)
        if self.config.high_precision == "fp16":
            steps.to_high_precision(source, graph, self.rest, self.config)
        steps.write_biases(graph, self.config)
        return graph

    def measure(self, graph: Graph) -> Measured:
        """The score of a model in plain sessions, where those can run it; raises ModelError where
        it is not a number."""
        model, where = graphs.to_proto(graph), steps.runtime_of(self.config)
        measured, trouble = plainly(
            lambda r: self._read(accuracy.outputs(model, self.check, runtime=r)), where
        )
        return replace(measured, trouble=trouble)

    @cached_property
    def reference(self) -> float:
        """The score of the float file."""
        return self._read(self._kept if self._compares else self._float()).score

    def latency(self, graph: Graph) -> float:
        """Seconds a run through ONNX Runtime, as a share of the float file's; the medians of runs
        that take turns.
        """
        models = (self._reference(), graphs.to_proto(graph))
        pair, _ = plainly(lambda r: [loaded(m, r) for m in models], steps.runtime_of(self.config))
        samples = [self.check.sample(i) for i in range(min(TIMED_SAMPLES, len(self.check)))]
        plain, test = side_by_side(pair, samples, TIMED_RUNS)
        return test / plain

    @property
    def _compares(self) -> bool:
        return not isinstance(self.metric, FunctionMetric | Top1)

    @cached_property
    def _kept(self) -> list[Outputs]:
        wanted = {*(part.output for part in self.parts), *outputs_in(ranked_in(self.parts))}
        return [{n: x for n, x in row.items() if n in wanted} for row in self._float()]

    def _float(self) -> Iterator[Outputs]:
        where = steps.runtime_of(self.config)
        return accuracy.outputs(self._reference(), self.check, runtime=where)

    def _reference(self) -> Model:
        """The float model that scores and times are against: the prepared graph where the file has
        no such output, as of what stands in for boxes."""
        original.hold(self.source, self.check, steps.runtime_of(self.config))
        if not self.source.original.outputs.issuperset(part.output for part in self.parts):
            return graphs.to_proto(self.source.graph)
        return original.reference(self.source)

    def _read(self, outputs: Iterable[Outputs]) -> Measured:
        if isinstance(self.metric, FunctionMetric):
            score, error = self.metric.evaluate(outputs)
            return Measured(score, error if math.isfinite(error) else None, {})
        sums: dict[str, list[Sums]] = {part.name: [] for part in self.parts}
        told: set[str] = set()
        groups, matched = ranked_in(self.parts), dict[str, Found]()
        for i, row in enumerate(outputs):
            ref = self._kept[i] if self._compares else row
            if self._compares:
                ref, row = line_up(groups, ref, row, matched)
            for part in self.parts:
                a, b = part.of(ref[part.output]), part.of(row[part.output])
                if a.shape != b.shape:
                    raise ModelError(
                        f"'{part.name}' cannot be scored: its length depends on the values, shape "
                        f"{a.shape} float and {b.shape} quantized in sample {i}; score other "
                        "outputs with --output"
                    )
                part_sums = sums_of(self.metric, i, a, b)
                if not all(map(math.isfinite, part_sums)):
                    raise ModelError(
                        f"'{part.name}' holds NaN or infinite values in sample {i} of the "
                        "quantized model; score other outputs with --output"
                    )
                sums[part.name].append(part_sums)
                told |= {part.name} if np.isfinite(a).any() else set()
        if not told:
            raise ModelError("no scored output has a finite value in any sample: there is nothing "
                             "to measure by; score other outputs with --output")  # fmt: skip
        totals = {n: np.array(rows, np.float64) for n, rows in sums.items() if n in told}
        return Measured(
            worst(self.metric, totals), stderr(self.metric, totals), scores(self.metric, totals)
        )
