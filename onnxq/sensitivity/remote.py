"""Toggles measured by the workers of an executor.

A task is a group of toggles, by name; a worker sets the whole analysis up once, as this process
would, and measures one group after the other. The sums of a toggle over a sample depend on nothing
else, so they are those of one process to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace

from onnxq.cluster import kept
from onnxq.cluster.tasks import Job, parts_of, results
from onnxq.errors import ModelError
from onnxq.pipeline.opening import DataSpec, ModelSpec, opened, placed
from onnxq.pipeline.source import Source as FileSource
from onnxq.progress import Count
from onnxq.sensitivity.analysis import Analysis, analysis_of
from onnxq.sensitivity.measure import Found, Measure, Measuring
from onnxq.sensitivity.state import State
from onnxq.sensitivity.toggles import Toggle

TASKS = 16  # a thread; a worker sets up for the first of them alone
# Toggles, those of the ranking by name, and samples.
Group = tuple[Sequence[Toggle | str], Sequence[int]]


@dataclass(frozen=True)
class Workers:
    """An executor whose workers know the analysis."""

    executor: Executor
    job: Job
    analysis: Analysis

    def measure(
        self, toggles: Sequence[Toggle], samples: Sequence[int], state: State, progress: Count
    ) -> None:
        """`Measuring.measure` by the workers; `progress` counts toggles."""
        keys, known = self.analysis.kept(samples), self.analysis.toggles
        missing = [toggle for toggle in toggles if not state.has(toggle.name, keys)]
        groups: list[Group] = [
            ([t.name if t.name in known else t for t in part], tuple(samples))
            for part in parts_of(missing, self.executor, TASKS)
        ]
        done = len(toggles) - len(missing)
        try:
            with closing(results(self.executor, _measured, self.job, groups)) as measured:
                for (group, _), sums_of in measured:
                    for toggle, by_sample in sums_of.items():
                        for i, its in by_sample.items():
                            state.add(toggle, i, its)
                    state.save_soon()
                    done += len(group)
                    progress(done, len(toggles))
        finally:
            state.save()


def measure_of(analysis: Analysis, executor: Executor | None) -> Measure:
    """What measures toggles: this process, or the workers of an executor. Raises ModelError where
    these cannot open the model."""
    if executor is None:
        return Measuring(analysis).measure
    source = analysis.source
    if not isinstance(source, FileSource):
        raise ModelError("an executor's workers open the model's file; give what 'prepare' returns")
    told = (
        ModelSpec.of(source),
        DataSpec.of(analysis.dataset),
        analysis.plan,
        analysis.ranges,
        replace(analysis.options, resume=None),
        replace(placed(analysis.config), workers=1),
    )
    return Workers(executor, Job.of(told), analysis).measure


def _measured(job: Job, group: Group) -> Mapping[str, Found]:
    """Runs on a worker."""
    with kept.borrowed(f"analysis {job.key}", lambda: _set_up(job)) as here:
        state, known = State(), here.analysis.toggles
        toggles = [known[t] if isinstance(t, str) else t for t in group[0]]
        here.measure(toggles, group[1], state, lambda done, total: None)
        return state.sums()


def _set_up(job: Job) -> Measuring:
    model, data, *told = job.value()
    return Measuring(analysis_of(*opened(model, data), *told))
