"""Toggles measured by the workers of an executor.

A task is a group of toggles, by name; a worker sets the whole analysis up once, as this process
would, and measures one group after the other. The sums of a toggle over a sample depend on nothing
else, so they are those of one process to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace

from onnxq.calib.ranges import Ranges
from onnxq.cluster import kept
from onnxq.cluster.tasks import Job, parts_of, results
from onnxq.errors import ModelError
from onnxq.judge.metrics import Sums
from onnxq.pipeline.config import Config
from onnxq.pipeline.opening import DataSpec, ModelSpec, opened, placed
from onnxq.pipeline.source import Source as FileSource
from onnxq.plan import Plan
from onnxq.progress import Count
from onnxq.sensitivity.options import Options
from onnxq.sensitivity.setup import Setup, Source, setup_of
from onnxq.sensitivity.state import State
from onnxq.sensitivity.toggles import Toggle

Measure = Callable[[Sequence[Toggle], Sequence[int], State, Count], None]
TASKS = 16  # a thread; a worker sets up for the first of them alone

Found = Mapping[str, Mapping[int, Mapping[str, Sums]]]  # toggle -> sample -> tensor -> sums


@dataclass(frozen=True)
class Analysis:
    """What every worker sets up."""

    model: ModelSpec
    data: DataSpec
    plan: Plan
    ranges: Ranges
    options: Options
    config: Config


@dataclass(frozen=True)
class Group:
    """Toggles to measure, of the ranking by name, and the samples."""

    toggles: tuple[str | Toggle, ...]
    samples: tuple[int, ...]


@dataclass(frozen=True)
class Workers:
    """An executor whose workers know the analysis."""

    executor: Executor
    job: Job
    setup: Setup

    def measure(
        self,
        toggles: Sequence[Toggle],
        samples: Sequence[int],
        state: State,
        progress: Count,
    ) -> None:
        """`Setup.measure` by the workers; `progress` counts toggles."""
        keys, known = self.setup.kept(samples), self.setup.toggles
        missing = [toggle for toggle in toggles if not state.has(toggle.name, keys)]
        groups = [
            Group(tuple(t.name if t.name in known else t for t in part), tuple(samples))
            for part in parts_of(missing, self.executor, TASKS)
        ]
        done = len(toggles) - len(missing)
        try:
            with closing(results(self.executor, _measured, self.job, groups)) as measured:
                for group, found in measured:
                    for toggle, sums in found.items():
                        for i, one in sums.items():
                            state.add(toggle, i, one)
                    state.save_soon()
                    done += len(group.toggles)
                    progress(done, len(toggles))
        finally:
            state.save()


def workers_of(executor: Executor, source: Source, setup: Setup) -> Workers:
    """Workers for the analysis of `source` that `setup` is; raises ModelError where it has no
    file."""
    if not isinstance(source, FileSource):
        raise ModelError("an executor's workers open the model's file; give what 'prepare' returns")
    work = setup.work
    analysis = Analysis(
        ModelSpec.of(source),
        DataSpec.of(setup.dataset),
        work.plan,
        work.ranges,
        replace(work.options, resume=None),
        replace(placed(setup.config), workers=1),
    )
    return Workers(executor, Job.of(analysis), setup)


def _measured(job: Job, group: Group) -> Found:
    """Runs on a worker."""
    with kept.borrowed(f"analysis {job.key}", lambda: _set_up(job)) as setup:
        state = State()
        toggles = [setup.toggles[t] if isinstance(t, str) else t for t in group.toggles]
        setup.measure(toggles, group.samples, state, lambda done, total: None)
        return state.sums()


def _set_up(job: Job) -> Setup:
    said: Analysis = job.value()
    source, dataset = opened(said.model, said.data)
    return setup_of(source, said.plan, said.ranges, dataset, said.options, said.config)
