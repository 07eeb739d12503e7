"""Which nodes of a model stay float: from files to a plan under a budget, or without the worst."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnxq.calib.holdout import held_out
from onnxq.errors import PlanError
from onnxq.pipeline.config import Config
from onnxq.pipeline.reading import CalibrationData
from onnxq.pipeline.source import Source, prepare
from onnxq.pipeline.steps import calibrate, data, plan
from onnxq.progress import Progress, silent, told
from onnxq.verbs.evaluation import Evaluation

if TYPE_CHECKING:
    from onnxq.calib.stats import Stats
    from onnxq.plan import Plan
    from onnxq.search import Choices, Recipe, Result, Samples, SearchOptions

COUNTS = (0, 1, 2, 3, 5, 8)  # of nodes that a recipe leaves float, unasked


@dataclass(frozen=True)
class Searched:
    """What a search found, and what it was made of.

    plan: the one found; where none keeps to the budget, the one that quantizes everything.
    """

    source: Source
    plan: Plan
    stats: Stats
    result: Result


@told
def search_plan(
    model: str | Path,
    calib: CalibrationData,
    options: SearchOptions,
    config: Config | None = None,
    evaluation: Evaluation | None = None,
    *,
    choices: Choices | None = None,
    plan_from: Plan | None = None,
    stats_from: Stats | None = None,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> Searched:
    """The cheapest plan of a model file that keeps to a budget, of what nodes may become; writes
    nothing.

    choices: see `onnxq.search.choices_of`; the scheme of `config` or float by default. Measured on
    samples held out of `calib` where `evaluation` says nothing else, on all where labels or a
    function are scored. `plan_from` is where to start, with nothing to choose but float. Raises
    OnnxqError subclasses for whatever the user can mend.
    """
    from onnxq.search import choices_of, given, palette_of, search, solve

    solve.require()
    config = config or Config()
    choices = choices or choices_of(None, None, config.placement)
    source = _prepared(model, config, choices, plan_from)
    options.price.check(source.graph)
    palette = given(source.graph, plan_from) if plan_from else palette_of(source, config, choices)
    palette.everything.check_model(source.sha256)
    samples, options = _samples(source, calib, options, config, evaluation or Evaluation())
    stats = stats_from or calibrate(
        source, palette.everything, samples.rest, config, progress, executor=executor
    )
    stats.check_model(source.sha256)
    found = search(source, palette, stats, samples, options, config, progress, executor)
    return Searched(source, found.plan or palette.everything, stats, found)


@told
def recipe(
    model: str | Path,
    calib: CalibrationData,
    options: SearchOptions,
    config: Config | None = None,
    evaluation: Evaluation | None = None,
    *,
    counts: Sequence[int] = (),
    plan_from: Plan | None = None,
    progress: Progress = silent,
) -> Recipe:
    """A model file's plan without its worst nodes, as few as are needed, by measuring; `quantize`
    takes it as `plan_from`.

    counts: of nodes left float, one after the other; 0, 1, 2, 3, 5 and 8 by default. Without a
    budget the best is taken. Raises OnnxqError subclasses for whatever the user can mend.
    """
    from onnxq.search import recipe as measured

    config = config or Config()
    source = prepare(model, config, plan_from)
    chosen = plan_from or plan(source, config)
    chosen.check_model(source.sha256)
    samples, options = _samples(source, calib, options, config, evaluation or Evaluation())
    stats = calibrate(source, chosen, samples.rest, config, progress)
    counts = counts or tuple(k for k in COUNTS if k <= len(chosen.nodes))
    return measured(source, chosen, stats, samples, counts, options, config, progress)


def _prepared(model: str | Path, config: Config, choices: Choices, plan: Plan | None) -> Source:
    """The model, in an opset that has the types of every choice, or of the plan in their place."""
    from onnxq.targets.specs import opset_of

    own = config.placement.scheme_for
    wider = [
        replace(config.placement, scheme_for=(*own, f"*={scheme.name}"))
        for scheme in choices.quantized.values()
    ]
    return prepare(model, replace(config, placement=max(wider, key=opset_of)), plan)


def _samples(
    source: Source,
    calib: CalibrationData,
    options: SearchOptions,
    config: Config,
    evaluation: Evaluation,
) -> tuple[Samples, SearchOptions]:
    """Which samples do what, and the options with the labels of those that are measured on.

    Raises DataError for labels that do not fit, PlanError for a metric that cannot be imported.
    """
    from onnxq.search import Samples
    from onnxq.sensitivity import metric_of

    full = data(source, calib, config)
    rest, held = held_out(full, config.check_samples)
    check = held
    if evaluation.data:
        full = check = data(source, evaluation.data, replace(config, samples=None))
    elif options.measured_by == "top1" or ":" in options.measured_by:
        check = full
    if not len(check):
        raise PlanError("--check-samples 0 holds out nothing to measure plans on; give --eval DATA")
    if evaluation.samples is not None:
        check = check.beginnings(evaluation.samples, config.seed)
    if evaluation.labels is not None:
        options = replace(options, labels=evaluation.labels_of(full, check))
    metric_of(options.judging(), len(check))  # refuses what does not fit before the model is run
    return Samples(rest, held, check), options
