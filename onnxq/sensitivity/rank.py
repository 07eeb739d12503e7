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
from onnxq.pipeline.steps import insert_options
from onnxq.plan import Plan
from onnxq.progress import Progress, silent, stage, told
from onnxq.progress import count as told_of
from onnxq.sensitivity.analysis import Analysis, analysis_of
from onnxq.sensitivity.analysis import Source as Source
from onnxq.sensitivity.measure import Measure
from onnxq.sensitivity.options import Options
from onnxq.sensitivity.ranking import Ranking
from onnxq.sensitivity.readings import Readings
from onnxq.sensitivity.remote import measure_of
from onnxq.sensitivity.screen import Screen, confirm, screen_of
from onnxq.sensitivity.state import State
from onnxq.sensitivity.toggles import Toggle

# Options that leave every sum as it is.
FREE = ("resume", "max_memory", "curve", "screen", "top", "labels")


@told
def sensitivity(
    source: Source,
    plan: Plan,
    ranges: Ranges,
    dataset: Dataset,
    options: Options | None = None,
    config: Config | None = None,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> Ranking:
    """The damage that quantizing each node (or group) of `plan` does: of the worst over all of
    `dataset`, of the others over the share of it that `options.screen` is.

    Of `config` it takes how Q/DQ is written, where models run and how many samples at a time.
    The workers of an `executor` measure instead of this process, to the same bits
    (docs/scale.md). `progress` is called with "sensitivity", "confirm" and "curve". Raises
    PlanError for options, patterns or a metric that do not fit, DataError for labels, ModelError
    where a score is not a number, WorkerError where workers fail.
    """
    options, config = options or Options(), config or Config()
    with stage("analyse"):
        analysis = analysis_of(source, dataset, plan, ranges, options, config)
        state = State(options.resume, _key(analysis) if options.resume else "")
        measure = measure_of(analysis, executor)
    readings = _measured(analysis, measure, state)
    if not readings.tells(analysis.units):
        raise ModelError(
            f"no scored output has a value that '{options.metric}' can compare in any "
            "sample: there is nothing to rank by; score other outputs with --output"
        )
    judge = readings.judge()
    ranking = Ranking(
        model=source.sha256,
        mode=options.mode,
        granularity=options.granularity,
        metric=options.metric,
        higher_is_better=analysis.metric.higher_is_better,
        at=options.at,
        samples=len(dataset),
        rows=analysis.rows(readings),
        float_score=judge.worst(judge.reference) if judge.reference is not None else None,
        quantized_score=judge.worst(judge.quantized) if judge.quantized is not None else None,
    )
    if not options.curve:
        return ranking
    curve, everything = _curve(ranking, analysis), range(len(dataset))
    with stage("curve"):
        measure(list(curve.values()), everything, state, told_of)
    scores = {k: judge.worst(readings.totals(t.name, everything)) for k, t in curve.items()}
    quantized = ranking.quantized_score if ranking.quantized_score is not None else scores.get(0)
    return replace(ranking, curve=tuple(scores.items()), quantized_score=quantized)


def _measured(analysis: Analysis, measure: Measure, state: State) -> Readings:
    """Every unit on the screen's few samples, and what is to be confirmed on the rest."""
    toggles = list(analysis.toggles.values())
    screen = screen_of(analysis.options, len(analysis.dataset), analysis.scattered)

    def damage(screen: Screen) -> dict[str, float]:
        readings = Readings(state, analysis.metric, screen)
        return {unit.name: readings.damage(unit) for unit in analysis.units}

    def confirmed(units: Collection[str]) -> None:
        some = [toggle for toggle in toggles if toggle.unit in ("", *units)]
        with stage("confirm"):
            measure(some, screen.rest, state, told_of)

    with stage("sensitivity"):
        measure(toggles, screen.few, state, told_of)
    return Readings(state, analysis.metric, confirm(screen, analysis.options, damage, confirmed))


def _curve(ranking: Ranking, analysis: Analysis) -> dict[int, Toggle]:
    """How many of the worst units stay float -> the toggle that measures it."""
    counts = sorted({min(k, len(ranking.rows)) for k in analysis.options.curve})
    plans = {k: analysis.plan.without(*ranking.worst(k)) for k in counts}
    return {k: Toggle(f"(curve {k})", plan, analysis.outputs) for k, plan in plans.items()}


def _key(analysis: Analysis) -> str:
    """A digest of everything that the measured sums depend on."""
    options, labels = analysis.options, analysis.options.labels
    insert = insert_options(analysis.config)
    said: list[Any] = [
        analysis.plan.model,
        analysis.plan.to_yaml(),
        analysis.ranges.to_json(),
        {f.name: getattr(options, f.name) for f in fields(options) if f.name not in FREE},
        None if labels is None else np.asarray(labels).tolist(),
        (analysis.runtime.provider, insert.weights_as, insert.scale_dtype,
         insert.weight_range.__qualname__),
        [facts.digest for facts in analysis.dataset.facts()],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()
