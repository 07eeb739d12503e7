"""The plans of least damage for each cost: solved from added-up damage, then measured whole.

    damage of a plan = sum over its nodes of the damage of quantizing that node alone

holds where the noises of nodes are independent, which they are only roughly. So it proposes plans
and decides nothing: a plan counts by what its model was measured to score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnxq.cost.counted import MEASURED, Costs
from onnxq.judge.metrics import LABEL_FREE
from onnxq.judge.parts import Part
from onnxq.plan import Plan
from onnxq.search.budget import Budget
from onnxq.search.choices import FLOAT, Palette
from onnxq.search.meter import Meter
from onnxq.search.remote import Workers
from onnxq.search.result import Trial
from onnxq.search.solve import Link, cheapest, solve
from onnxq.sensitivity.ranking import Ranking

Array = npt.NDArray[np.float64]


@dataclass
class Frontier:
    """Proposes and measures plans; what is measured once is kept.

    rankings: choice -> damage of each node. workers: measure plans in place of this process, but
    for costs that are measured, which is done here. Nodes without a cost are not chosen for: they
    get the first choice there is wherever the target's table gives them any.
    """

    palette: Palette
    rankings: Mapping[str, Ranking]
    parts: Sequence[Part]
    costs: Costs
    priced: str
    meter: Meter
    budget: Budget | None
    workers: Workers | None = None
    trials: dict[tuple[str, ...], Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        of, plans = self.costs.of, self.palette.plans
        self.nodes = [n for n in self.palette.nodes if n in of]
        self.choices = [*plans, FLOAT]
        offered = {c: set(plan.nodes) for c, plan in plans.items()}
        self._followers = {
            n: next(c for c in plans if n in offered[c]) for n in self.palette.nodes if n not in of
        }
        self._cost = np.array([
            [of[n][c] if n in offered[c] else np.inf for c in plans]
            + [of[n][FLOAT] if self.palette.leaves_float else np.inf]
            for n in self.nodes
        ]).reshape(len(self.nodes), len(self.choices))  # fmt: skip
        chosen_for = set(self.nodes)
        self._fixed = sum(of[n][FLOAT] for n in of if n not in chosen_for)
        place = {node: i for i, node in enumerate(self.nodes)}
        self._links = [
            Link(place.get(b.writer or ""), tuple(place[n] for n in b.readers if n in place),
                 b.convert, b.saved, b.able and (b.writer is None or b.writer in place))
            for b in self.costs.borders
        ]  # fmt: skip
        self._damage = self._damages()
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._solved: dict[float, Mapping[str, str] | None] = {}

    def _damages(self) -> Array:
        """[nodes, choices, parts]; nothing for what stays float."""
        tensors = list(dict.fromkeys(part.tensor for part in self.parts))
        damages = np.zeros((len(self.nodes), len(self.choices), len(tensors)))
        for c, choice in enumerate(self.choices[:-1]):
            if choice not in self.rankings:
                continue
            ranking = self.rankings[choice]
            damage = LABEL_FREE[ranking.metric].lost
            rows = {row.name: row for row in ranking.rows}
            for n, node in enumerate(self.nodes):
                if node in rows:
                    damages[n, c] = [damage(rows[node].outputs[name]) for name in tensors]
        return np.maximum(damages, 0.0)

    @property
    def least(self) -> float:
        """The cost of the cheapest plan."""
        return cheapest(self._cost, self._links) + self._fixed

    def at(self, limit: float) -> Trial | None:
        """The measured plan of least predicted damage within a cost; None if none is so cheap."""
        choices = self._within(limit)
        return None if choices is None else self.of(choices)

    def expect(self, limits: Iterable[float]) -> None:
        """Let workers begin with the plans for these costs, which may be asked for."""
        if self.workers is None or self.priced in MEASURED:
            return
        for choices in map(self._within, limits):
            if choices is None:
                continue
            plan = self.palette.mix({**choices, **self._followers})
            key = self._key(self.palette.named(plan, choices))
            if key not in self.trials:
                self.workers.begin(key, plan)

    def _within(self, limit: float) -> Mapping[str, str] | None:
        """The choices of least predicted damage within a cost."""
        if limit not in self._solved:
            indices = solve(self._cost, self._damage, limit - self._fixed, self._links)
            self._solved[limit] = (
                None
                if indices is None
                else {n: self.choices[i] for n, i in zip(self.nodes, indices, strict=True)}
            )
        return self._solved[limit]

    def of(self, chosen: Mapping[str, str]) -> Trial:
        """The measured plan with these choices; nodes not named are float.

        Where the target's table decides otherwise, as for an attention that would be float in
        part, the trial says what it decided.
        """
        plan = self.palette.mix({**chosen, **self._followers})
        made = self.palette.named(plan, chosen)
        key = self._key(made)
        if key not in self.trials:
            self._plans[key] = plan
            self.trials[key] = self._measured(plan, made)
        return self.trials[key]

    def plan(self, trial: Trial) -> Plan:
        """The plan of a trial."""
        return self._plans[self._key(trial.choices)]

    def _key(self, chosen: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(chosen.get(n, FLOAT) for n in self.palette.nodes)

    def _measured(self, plan: Plan, choices: Mapping[str, str]) -> Trial:
        cost = modelled = self.costs.total(choices, plan)
        if self.workers is not None and self.priced not in MEASURED:
            measured = self.workers.measured(self._key(choices), plan)
        else:
            graph = self.meter.model(plan)
            measured = self.meter.measure(graph)
            if self.priced in MEASURED:
                cost = self.meter.latency(graph)
        higher = self.meter.metric.higher_is_better
        holds = self.budget is None or self.budget.holds(
            measured.score, self.meter.reference, cost, higher
        )
        index = {choice: i for i, choice in enumerate(self.choices)}
        picked = [index[choices.get(n, FLOAT)] for n in self.nodes]
        predicted = self._damage[np.arange(len(picked)), picked].sum(axis=0).max()
        return Trial(
            choices=choices,
            floats=tuple(n for n in self.palette.nodes if n not in choices),
            cost=cost,
            modelled=modelled,
            shares=self.costs.shares(choices),
            predicted=float(predicted),
            score=measured.score,
            stderr=measured.stderr,
            parts=measured.parts,
            holds=holds,
            trouble=measured.trouble,
        )
