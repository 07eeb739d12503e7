"""The recipe: rank the nodes, leave the worst K of them float for several K, take the least K that
is good enough.

The score of every K is measured on the whole model. Where no K is good enough, or nothing was
said of how good it has to be, the K with the best score is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from onnxq.calib.stats import Stats
from onnxq.errors import PlanError
from onnxq.pipeline import steps
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.progress import Progress, silent, stage, telling
from onnxq.progress import count as told_of
from onnxq.saved import FileForm, csv_of
from onnxq.search.budget import Budget
from onnxq.search.choices import given
from onnxq.search.frontier import Frontier
from onnxq.search.options import SearchOptions
from onnxq.search.result import Trial
from onnxq.search.search import Samples, frontier_of, settled
from onnxq.sensitivity import Ranking

FORM = FileForm("onnxq.recipe", 1)


@dataclass(frozen=True)
class Step:
    """The worst `count` nodes left float, and what that was measured to score and cost."""

    count: int
    trial: Trial


@dataclass(frozen=True)
class Recipe:
    """What the recipe came to.

    reference: the float model's score. steps: by rising count. chosen: the step taken. holds:
    whether it keeps to the budget, where there is one. ranking: the nodes, worst first.
    """

    metric: str
    reference: float
    budget: str | None
    cost: str
    samples: int
    steps: tuple[Step, ...]
    chosen: Step
    plan: Plan
    ranking: Ranking

    @property
    def holds(self) -> bool:
        """Whether the step taken keeps to the budget; true without one."""
        return self.chosen.trial.holds

    def to_csv(self) -> str:
        """The table: the float model, then a line a step."""
        columns = ("k", "cost", "quantized_macs", "score", "stderr", "holds")
        whole = ("float", 1.0, 0.0, self.reference, "", 1)
        rows: list[dict[str, object]] = [dict(zip(columns, whole, strict=True))]
        for step in self.steps:
            t = step.trial
            row = (step.count, t.cost, t.share, t.score, t.stderr, int(t.holds))
            rows.append({**dict(zip(columns, row, strict=True)), **t.parts})
        return csv_of(rows)

    def to_json(self) -> str:
        """Everything but the plan and the ranking; infinite scores are strings ("inf")."""
        document = {
            "metric": self.metric,
            "float_score": self.reference,
            "budget": self.budget,
            "cost": self.cost,
            "samples": self.samples,
            "chosen": self.chosen.count,
            "steps": [asdict(step) for step in self.steps],
        }
        return FORM.to_json(document)


def recipe(
    source: steps.Source,
    plan: Plan,
    stats: Stats,
    samples: Samples,
    counts: Sequence[int],
    options: SearchOptions,
    config: Config | None = None,
    progress: Progress = silent,
) -> Recipe:
    """Measure `plan` with the worst K nodes left float for each of `counts`, and take one.

    `progress` is called with "sensitivity" and "recipe". Raises as `search` does, and PlanError
    for counts that are negative or leave nothing quantized.
    """
    config = config or Config()
    palette = given(source.graph, plan)
    nodes = len(settled(source, palette, stats, config).nodes)
    wanted = sorted(set(counts))
    if not wanted or wanted[0] < 0 or wanted[-1] >= nodes:
        raise PlanError(f"--worst {','.join(map(str, counts)) or 'without numbers'}: give numbers "
                        f"of nodes from 0 to {nodes - 1}; the plan quantizes {nodes}")  # fmt: skip
    frontier = frontier_of(source, palette, stats, samples, options, config, progress)
    measured = []
    with telling(progress), stage("recipe"):
        for i, count in enumerate(wanted):
            told_of(i, len(wanted))
            measured.append(Step(count, _measured(frontier, count)))
    higher = frontier.meter.metric.higher_is_better
    taken = _chosen(measured, options.budget, higher)
    return Recipe(
        metric=options.measured_by,
        reference=frontier.meter.reference,
        budget=None if options.budget is None else str(options.budget),
        cost=options.cost,
        samples=len(samples.check),
        steps=tuple(measured),
        chosen=taken,
        plan=replace(frontier.plan(taken.trial), chosen_on=samples.check.digest()),
        ranking=_ranking(frontier),
    )


def _ranking(frontier: Frontier) -> Ranking:
    (ranking,) = frontier.rankings.values()  # a recipe has one choice
    return ranking


def _measured(frontier: Frontier, count: int) -> Trial:
    worst = set(_ranking(frontier).worst(count))
    (choice,) = frontier.palette.plans
    return frontier.of({n: choice for n in frontier.nodes if n not in worst})


def _chosen(measured: Sequence[Step], budget: Budget | None, higher: bool) -> Step:
    holding = [step for step in measured if step.trial.holds]
    if budget is not None and holding:
        return holding[0]
    return max(measured, key=lambda s: (s.trial.score if higher else -s.trial.score, -s.count))
