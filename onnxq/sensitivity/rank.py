"""The verb: toggle entries of the plan, run, score, rank; then the curve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from concurrent.futures import Executor
from dataclasses import fields, replace
from typing import Any

import numpy as np

from onnxq.calib.data import Dataset
from onnxq.calib.ranges import Ranges
from onnxq.errors import ModelError
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.progress import Progress
from onnxq.sensitivity.options import Execution, Options
from onnxq.sensitivity.ranking import Ranking
from onnxq.sensitivity.readings import Readings
from onnxq.sensitivity.remote import Measure, workers_of
from onnxq.sensitivity.screen import Screen, confirm, screen_of
from onnxq.sensitivity.setup import Setup, setup_of
from onnxq.sensitivity.setup import Source as Source
from onnxq.sensitivity.state import State
from onnxq.sensitivity.toggles import Toggle
from onnxq.sensitivity.work import Work

FREE = (
    "resume",
    "max_memory",
    "curve",
    "screen",
    "top",
    "labels",
)  # options that leave every sum as it is


def sensitivity(
    source: Source,
    plan: Plan,
    ranges: Ranges,
    dataset: Dataset,
    options: Options | None = None,
    config: Config | None = None,
    progress: Progress = lambda stage, done, total: None,
    executor: Executor | None = None,
) -> Ranking:
    """The damage that quantizing each node (or group) of `plan` does: of the worst over all of
    `dataset`, of the others over the share of it that `options.screen` is.

    Of `config` it takes how Q/DQ is written, where models run and how many samples at a time.
    The workers of an `executor` measure instead of this process, to the same bits
    (docs/clusters.md). `progress` is called with "sensitivity", "confirm" and "curve". Raises
    PlanError for options, patterns or a metric that do not fit, DataError for labels, ModelError
    where a score is not a number, WorkerError where workers fail.
    """
    options, config = options or Options(), config or Config()
    setup = setup_of(source, plan, ranges, dataset, options, config)
    work, metric = setup.work, setup.metric
    state = State(options.resume, _key(work, dataset, setup.execution) if options.resume else "")
    measure = setup.measure
    if executor is not None:
        measure = workers_of(executor, source, setup).measure
    found = _measured(setup, measure, state, screen_of(options, len(dataset)), progress)
    if not found.tells(work.units):
        raise ModelError(
            f"no scored output has a value that '{options.metric}' can compare in any "
            "sample: there is nothing to rank by; score other outputs with --output"
        )
    judge = found.judge()
    first = {name: x.shape for name, x in dataset.sample(0).items()}
    ranking = Ranking(
        model=source.sha256,
        mode=options.mode,
        granularity=options.granularity,
        metric=options.metric,
        higher_is_better=metric.higher_is_better,
        at=options.at,
        samples=len(dataset),
        rows=work.rows(found, first),
        float_score=judge.worst(judge.reference) if judge.reference is not None else None,
        quantized_score=judge.worst(judge.quantized) if judge.quantized is not None else None,
    )
    if not options.curve:
        return ranking
    steps, everything = _curve(ranking, work), range(len(dataset))
    measure(list(steps.values()), everything, state, lambda i, n: progress("curve", i, n))
    scores = {k: judge.worst(found.totals(t.name, everything)) for k, t in steps.items()}
    quantized = ranking.quantized_score if ranking.quantized_score is not None else scores.get(0)
    return replace(ranking, curve=tuple(scores.items()), quantized_score=quantized)


def _measured(
    setup: Setup, measure: Measure, state: State, screen: Screen, progress: Progress
) -> Readings:
    """Every unit on the screen's few samples, and what is to be confirmed on the rest."""

    def damage(screen: Screen) -> dict[str, float]:
        found = Readings(state, setup.metric, screen)
        return {unit.name: found.damage(unit) for unit in work.units}

    def confirmed(units: Collection[str]) -> None:
        rest = screen.rest
        measure(work.toggles(units), rest, state, lambda i, n: progress("confirm", i, n))

    work = setup.work
    measure(work.toggles(), screen.few, state, lambda i, n: progress("sensitivity", i, n))
    screen = confirm(screen, work.options, damage, confirmed)
    return Readings(state, setup.metric, screen)


def _curve(ranking: Ranking, work: Work) -> dict[int, Toggle]:
    """How many of the worst units stay float -> the toggle that measures it."""
    counts = sorted({min(k, len(ranking.rows)) for k in work.options.curve})
    return {
        k: Toggle(f"(curve {k})", work.plan.without(*ranking.worst(k)), work.outputs())
        for k in counts
    }


def _key(work: Work, dataset: Dataset, execution: Execution) -> str:
    """A digest of everything that the measured sums depend on."""
    options = work.options
    labels = options.labels
    said: list[Any] = [
        work.plan.model,
        work.plan.to_yaml(),
        work.ranges.to_json(),
        {f.name: getattr(options, f.name) for f in fields(options) if f.name not in FREE},
        None if labels is None else np.asarray(labels).tolist(),
        (execution.runtime.provider, execution.insert.weights_as, execution.insert.scale_dtype,
         execution.insert.weight_range.__qualname__),
        [facts.digest for facts in dataset.facts()],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()
