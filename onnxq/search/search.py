"""The verb: rank, propose plans by an integer program, measure them, bisect until one holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from onnxq.calib.data import Dataset
from onnxq.calib.stats import Stats
from onnxq.cost.counted import Costs, is_profile
from onnxq.cost.pricing import priced
from onnxq.cost.shapes import shapes_of
from onnxq.errors import PlanError
from onnxq.judge.parts import Part, parts_of, wholes_of, with_outputs, with_stand_ins
from onnxq.pipeline import steps
from onnxq.pipeline.config import Config
from onnxq.progress import Progress, count, silent, stage, telling
from onnxq.search import solve
from onnxq.search.budget import Budget
from onnxq.search.choices import Palette
from onnxq.search.frontier import Frontier
from onnxq.search.meter import Meter
from onnxq.search.options import SearchOptions
from onnxq.search.remote import Workers
from onnxq.search.result import Result, Trial
from onnxq.sensitivity import Options, Ranking, metric_of, sensitivity

NEAR = 1e-3  # costs that are this near to each other are not told apart


@dataclass(frozen=True)
class Samples:
    """Which samples do what: `rest` gave the ranges and ranks, `held` is what `quantize` compares
    on, `check` is what plans are measured on: `held`, or data of its own."""

    rest: Dataset
    held: Dataset
    check: Dataset


def search(
    source: steps.Source,
    palette: Palette,
    stats: Stats,
    samples: Samples,
    options: SearchOptions,
    config: Config | None = None,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> Result:
    """The cheapest plan that keeps to the budget, by measuring; of the choices in `palette`.

    For a budget of cost: the measured plan within it that scores best. stats: of `samples.rest`.
    Labels in `options` are of `samples.check`. The workers of an `executor` rank nodes and measure
    plans instead of this process, to the same bits (docs/scale.md). `progress` is called with
    "sensitivity" and "search". Raises PlanError, DataError, ModelError and WorkerError as
    `sensitivity` does, RuntimeMissing where there is no highspy.
    """
    solve.require()
    if options.budget is None:
        raise PlanError("a search needs a budget")
    config = config or Config()
    frontier = frontier_of(source, palette, stats, samples, options, config, progress, executor)
    try:
        with telling(progress), stage("search"):
            _explore(frontier, options.budget, options)
    finally:
        if frontier.workers is not None:
            frontier.workers.stop()
    return _result(frontier, options.budget, samples, options)


def frontier_of(
    source: steps.Source,
    palette: Palette,
    stats: Stats,
    samples: Samples,
    options: SearchOptions,
    config: Config,
    progress: Progress,
    executor: Executor | None = None,
) -> Frontier:
    """Everything that proposes and measures plans: costs, damage of each node, the meter."""
    palette = settled(source, palette, stats, config)
    metric = metric_of(options.judging(), len(samples.check))  # refuses before work is done
    first = samples.rest.sample(0)
    shapes = shapes_of(source.graph, palette.nodes, first, steps.runtime_of(config))
    costs = priced(source.graph, palette.plans, config.high_precision, shapes, options.cost,
                   options.layers, options.rates)  # fmt: skip
    if ":" not in options.measured_by:
        source = replace(source, graph=with_stand_ins(source.graph))
    branches = parts_of(source.graph, palette.nodes, shapes, options.outputs)
    if not options.apart:
        branches = wholes_of(branches)
    labelled = options.measured_by == "top1"
    scored = parts_of(source.graph, (), shapes, options.outputs)  # as `quantize` judges
    if labelled or not options.apart:
        scored = wholes_of(scored)
    meter = Meter(source, stats, metric, scored, samples.check, samples.rest, config)
    rankings = _rankings(meter, palette, costs, branches, options, progress, executor)
    workers = None if executor is None else Workers(executor, meter, options)
    return Frontier(
        palette, rankings, branches, costs, options.cost, meter, options.budget, workers
    )


def settled(source: steps.Source, palette: Palette, stats: Stats, config: Config) -> Palette:
    """Without nodes that read a tensor with range zero; raises PlanError for none left."""
    for plan in palette.plans.values():
        plan.check_model(source.sha256)
    left = palette.settled(
        source.graph, lambda plan: steps.read(source, plan, stats, config.method)
    )
    steps.refuse_empty(left.everything, source)
    return left


def _rankings(
    meter: Meter,
    palette: Palette,
    costs: Costs,
    parts: Sequence[Part],
    options: SearchOptions,
    progress: Progress,
    executor: Executor | None,
) -> dict[str, Ranking]:
    """The damage of each node by each choice that it has, where it costs something.

    Weights of fewer than 8 bits are ranked with ranges by MSE: by the maximum they lose so much
    more that their order is another than after any recovery.
    """
    source, rest = meter.source, meter.rest
    few = rest.subset(min(options.rank_samples, len(rest)))
    scored = replace(source, graph=with_outputs(source.graph, parts))
    # Damage that is added up has to come from the same samples: screened, plans lost up to 4 dB.
    asked, rankings = Options(metric=options.rank_by, screen=1.0, apart=False), {}
    for choice, whole in palette.plans.items():
        plan = whole.only(*(n for n in whole.nodes if n in costs.of))
        if not plan.edges:
            continue
        narrow = any(spec.row.bits < 8 for spec in plan.edges.values())
        config = replace(meter.config, weight_method="mse") if narrow else meter.config
        told = partial(_told, progress, choice) if len(palette.plans) > 1 else progress
        ranges = meter.ranges(plan)
        rankings[choice] = sensitivity(scored, plan, ranges, few, asked, config, told, executor)
    return rankings


def _told(progress: Progress, choice: str, stage: str, done: int, total: int) -> None:
    progress(f"{stage}, {choice}", done, total)


def _explore(frontier: Frontier, budget: Budget, options: SearchOptions) -> None:
    """Measure plans at evenly spread costs, then where the budget begins to hold."""
    least, points = frontier.least, max(options.points, 1)
    total = points + options.trials
    spread = [least + (1 - least) * i / max(points - 1, 1) for i in range(points)]
    frontier.expect(spread)
    for i, limit in enumerate(spread):
        count(i, total)
        frontier.at(limit)
    low, high = _bracket(frontier, budget, least)
    middle = high if budget.kind == "cost" else (low + high) / 2
    for i in range(options.trials):
        if high - low < NEAR:
            break
        count(points + i, total)
        frontier.expect([middle, (low + middle) / 2, (middle + high) / 2])
        trial = frontier.at(middle)
        holds = trial is not None and trial.holds
        # more cost helps the score, less cost a budget of cost
        upwards = holds if budget.kind == "cost" else not holds
        low, high = (middle, high) if upwards else (low, middle)
        middle = (low + high) / 2


def _bracket(frontier: Frontier, budget: Budget, least: float) -> tuple[float, float]:
    """Modelled costs between which the budget begins, or for a budget of cost ceases, to hold."""
    if budget.kind == "cost":
        return least, min(max(budget.limit, least), 1.0)
    trials = frontier.trials.values()
    high = min((t.modelled for t in trials if t.holds), default=1.0)
    low = max((t.modelled for t in trials if not t.holds and t.modelled < high), default=least)
    return min(low, high), high


def _result(frontier: Frontier, budget: Budget, samples: Samples, options: SearchOptions) -> Result:
    meter, higher = frontier.meter, frontier.meter.metric.higher_is_better
    trials = fronted(frontier.trials.values(), higher)
    holding = [t for t in trials if t.holds and t.choices]
    chosen = _best(holding, budget, higher)
    plan = None
    if chosen is not None:
        plan = replace(frontier.plan(chosen), chosen_on=samples.check.digest())
    return Result(
        model=meter.source.sha256,
        metric=options.measured_by,
        higher_is_better=higher,
        reference=meter.reference,
        budget=str(budget),
        cost=Path(options.cost).name if is_profile(options.cost) else options.cost,
        choices=tuple(frontier.palette.plans),
        samples=len(samples.check),
        trials=trials,
        chosen=chosen,
        nearest=None if chosen else _nearest(trials, higher, budget),
        plan=plan,
        outputs={} if chosen is None else _outputs(frontier, chosen, samples.held),
        learnt=frontier.costs.learnt,
    )


def fronted(trials: Iterable[Trial], higher: bool) -> tuple[Trial, ...]:
    """The trials by rising cost, with those marked that none is both cheaper and better than."""
    best, marked = -math.inf, []
    for trial in sorted(trials, key=lambda t: (t.cost, -_goodness(t, higher))):
        front = _goodness(trial, higher) > best
        best = max(best, _goodness(trial, higher))
        marked.append(replace(trial, front=front))
    return tuple(marked)


def _goodness(trial: Trial, higher: bool) -> float:
    return trial.score if higher else -trial.score


def _best(holding: Sequence[Trial], budget: Budget, higher: bool) -> Trial | None:
    """The cheapest; for a budget of cost the best, and of equals the cheapest."""
    if budget.kind == "cost":
        return max(holding, key=lambda t: (_goodness(t, higher), -t.cost), default=None)
    return min(holding, key=lambda t: (t.cost, -_goodness(t, higher)), default=None)


def _nearest(trials: Sequence[Trial], higher: bool, budget: Budget) -> Trial | None:
    """Of the trials that quantize something: the cheapest for a budget of cost, else the best."""
    some = [t for t in trials if t.choices]
    if budget.kind == "cost":
        return min(some, key=lambda t: t.cost, default=None)
    return max(some, key=lambda t: _goodness(t, higher), default=None)


def _outputs(frontier: Frontier, trial: Trial, held: Dataset) -> dict[str, float]:
    meter = frontier.meter
    graph = meter.model(frontier.plan(trial))
    agreements = steps.compare(meter.source, graph, held, meter.config)
    return {name: found.sqnr_db for name, found in agreements.judged.items()}
