"""Plans measured by the workers of an executor.

A search asks for one plan after the other, each by what the last ones scored. Plans that it may ask
for next are begun ahead; what is not asked for in the end counts for nothing, so the trials are
those of one process to the bit.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future
from dataclasses import dataclass

from onnxq.calib.stats import Stats
from onnxq.cluster import kept
from onnxq.cluster.tasks import Job, result_of, submitted
from onnxq.judge.parts import Part
from onnxq.pipeline.config import Config
from onnxq.pipeline.opening import DataSpec, ModelSpec, opened, placed
from onnxq.plan import Plan
from onnxq.search.meter import Measured, Meter
from onnxq.search.options import SearchOptions
from onnxq.sensitivity import metric_of

Key = tuple[str, ...]


@dataclass(frozen=True)
class Metering:
    """What every worker makes its meter of."""

    model: ModelSpec
    stats: Stats
    options: SearchOptions
    parts: tuple[Part, ...]
    check: DataSpec
    rest: DataSpec
    config: Config


class Workers:
    """An executor whose workers measure plans as `meter` does."""

    def __init__(self, executor: Executor, meter: Meter, options: SearchOptions) -> None:
        metering = Metering(
            ModelSpec.of(meter.source),
            meter.stats,
            options,
            tuple(meter.parts),
            DataSpec.of(meter.check),
            DataSpec.of(meter.rest),
            placed(meter.config),
        )
        self._executor, self._job = executor, Job.of(metering)
        self._begun: dict[Key, Future[Measured]] = {}

    def begin(self, key: Key, plan: Plan) -> None:
        """Let a worker measure a plan, which goes by `key`, unless one does already."""
        if key not in self._begun:
            self._begun[key] = submitted(self._executor, _measured, self._job, plan)

    def measured(self, key: Key, plan: Plan) -> Measured:
        """What a plan scores; raises as `Meter` does, and WorkerError where workers fail."""
        self.begin(key, plan)
        return result_of(self._executor, self._begun[key])

    def stop(self) -> None:
        """Take back what no worker has begun with."""
        for future in self._begun.values():
            future.cancel()


def _measured(job: Job, plan: Plan) -> Measured:
    """Runs on a worker."""
    with kept.borrowed(f"meter {job.key}", lambda: _meter(job)) as meter:
        return meter.measure(meter.model(plan))


def _meter(job: Job) -> Meter:
    said: Metering = job.value()
    source, rest = opened(said.model, said.rest)
    _, check = opened(said.model, said.check)
    metric = metric_of(said.options.judging(), len(check))
    return Meter(source, said.stats, metric, said.parts, check, rest, said.config)
