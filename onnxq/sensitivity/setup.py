"""What an analysis is of, and the benches that it is measured on: the same here and on a worker."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from onnxq.calib.data import Dataset
from onnxq.calib.observed import settle
from onnxq.calib.ranges import Ranges
from onnxq.errors import DataError, ModelError, PlanError
from onnxq.judge.metrics import AnyMetric, FunctionMetric
from onnxq.model.graph import Graph
from onnxq.pipeline import original
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source as FileSource
from onnxq.plan import Plan
from onnxq.progress import Count
from onnxq.sensitivity.measure import Bench, bench_of, measure
from onnxq.sensitivity.options import Execution, Options, execution_of, metric_of
from onnxq.sensitivity.runner import Runner, Subject, Whole
from onnxq.sensitivity.segmented import Segmented, segmented
from onnxq.sensitivity.state import State
from onnxq.sensitivity.toggles import Toggle, units_of
from onnxq.sensitivity.work import Work

log = logging.getLogger(__name__)


class Source(Protocol):
    """A prepared graph and the hash of its model file."""

    @property
    def graph(self) -> Graph: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Setup:
    """An analysis: what is measured, how it is scored, on which samples and where."""

    work: Work
    metric: AnyMetric
    dataset: Dataset
    config: Config
    source: Source

    @cached_property
    def execution(self) -> Execution:
        """Where and how models run."""
        return execution_of(self.config)

    @cached_property
    def toggles(self) -> Mapping[str, Toggle]:
        """Everything to measure for the ranking, by name."""
        return {toggle.name: toggle for toggle in self.work.toggles()}

    def measure(
        self, toggles: Sequence[Toggle], samples: Sequence[int], state: State, progress: Count
    ) -> None:
        """`measure.measure` of toggles of the ranking, or of others: those are of a curve."""
        ranked = all(toggle.name in self.toggles for toggle in toggles)
        bench = self.bench if ranked else self.curve_bench
        try:
            measure(bench, toggles, samples, state, progress)
        except ModelError as e:
            if not isinstance(bench.runner, Segmented):
                raise
            log.info("the model is run as a whole from here on, not in segments: %s", e)
            plain = self._bench(Whole(self._subject(self.work.scored()), self.execution))
            measure(plain, toggles, samples, state, progress)

    def kept(self, samples: Sequence[int]) -> Sequence[int]:
        """The samples that sums over `samples` are kept under: a function has one result."""
        return [0] if isinstance(self.metric, FunctionMetric) else samples

    @cached_property
    def bench(self) -> Bench:
        """Measures the toggles of units."""
        return self._bench(self._runner())

    @cached_property
    def curve_bench(self) -> Bench:
        """Measures whole models at their outputs."""
        return self._bench(Whole(self._subject(self.work.outputs()), self.execution))

    def _bench(self, runner: Runner) -> Bench:
        workers, memory = self.execution.workers, self.work.options.max_memory
        return bench_of(runner, self.metric, workers, memory)

    def _subject(self, tensors: tuple[str, ...]) -> Subject:
        work, file = self.work, None
        if isinstance(self.source, FileSource):
            file = original.file_with(self.source, tensors)
        return Subject(work.graph, work.ranges.limits, self.dataset, tensors, file)

    def _runner(self) -> Runner:
        work = self.work
        subject = self._subject(work.scored())
        if work.options.whole:
            return Whole(subject, self.execution)
        base = work.plan.only() if work.options.mode == "one-on" else work.plan
        return segmented(subject, base, work.plan, self.execution)


def setup_of(
    source: Source, plan: Plan, ranges: Ranges, dataset: Dataset, options: Options, config: Config
) -> Setup:
    """The setup of an analysis; raises as `sensitivity` does."""
    plan.check_model(source.sha256)
    ranges.check_model(source.sha256)
    plan, _ = settle(source.graph, plan, ranges)
    if not plan.edges:
        raise PlanError("the plan quantizes nothing: there is nothing to rank")
    if not len(dataset):
        raise DataError("there are no samples to score; give at least one")
    units = tuple(units_of(source.graph, plan, options))
    work = Work(source.graph, plan, ranges, options, units)
    found = Setup(work, metric_of(options, len(dataset)), dataset, config, source)
    if isinstance(source, FileSource):
        original.hold(source, dataset, found.execution.runtime)
    return found
