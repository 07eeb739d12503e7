"""The plans of least damage for each cost: solved from added-up damage, then measured whole.

    damage of a plan = sum over its nodes of the damage of quantizing that node alone

holds where the noises of nodes are independent, which they are only roughly. So it proposes plans
and decides nothing: a plan counts by what its model was measured to score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnxq.plan import Plan
from onnxq.search.branches import Part
from onnxq.search.budget import Budget
from onnxq.search.cost import MEASURED, Costs
from onnxq.search.meter import Meter
from onnxq.search.result import Trial
from onnxq.search.solve import solve
from onnxq.sensitivity.ranking import Ranking
from onnxq.targets.attention import broken_attention

Array = npt.NDArray[np.float64]
DAMAGE: Mapping[str, Callable[[float], float]] = {
    "sqnr": lambda db: 10 ** (-db / 10),
    "mse": float,
    "cosine": lambda c: 1 - c,
    "kl": float,
}
FLOAT = "float"
REASON = "left float by the search"


@dataclass
class Frontier:
    """Proposes and measures plans; what is measured once is kept.

    plans: choice -> the plan that quantizes every node so. rankings: choice -> damage of each node.
    """

    plans: Mapping[str, Plan]
    rankings: Mapping[str, Ranking]
    parts: Sequence[Part]
    costs: Costs
    priced: str
    meter: Meter
    budget: Budget | None
    trials: dict[tuple[str, ...], Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = list(dict.fromkeys(n for plan in self.plans.values() for n in plan.nodes))
        self.choices = [*self.plans, FLOAT]
        of = self.costs.of
        self._cost = np.array([[of[n].get(c, np.inf) for c in self.choices] for n in self.nodes])
        self._fixed = sum(of[n][FLOAT] for n in of if n not in set(self.nodes))
        self._damage = self._damages()

    def _damages(self) -> Array:
        """[nodes, choices, parts]; nothing for what stays float."""
        tensors = list(dict.fromkeys(part.tensor for part in self.parts))
        found = np.zeros((len(self.nodes), len(self.choices), len(tensors)))
        for c, choice in enumerate(self.plans):
            ranking = self.rankings[choice]
            damage = DAMAGE[ranking.metric]
            rows = {row.name: row for row in ranking.rows}
            for n, node in enumerate(self.nodes):
                if node in rows:
                    found[n, c] = [damage(rows[node].outputs[name]) for name in tensors]
        return np.maximum(found, 0.0)

    @property
    def least(self) -> float:
        """The cost of the cheapest plan."""
        return float(self._cost.min(axis=1).sum()) + self._fixed

    def at(self, limit: float) -> Trial | None:
        """The measured plan of least predicted damage within a cost; None if none is so cheap."""
        picked = solve(self._cost, self._damage, limit - self._fixed)
        if picked is None:
            return None
        chosen = {n: self.choices[i] for n, i in zip(self.nodes, picked, strict=True)}
        return self.of(chosen)

    def of(self, chosen: Mapping[str, str]) -> Trial:
        """The measured plan with these choices; nodes not named are float."""
        chosen = self._whole_attention(chosen)
        key = tuple(chosen.get(n, FLOAT) for n in self.nodes)
        if key not in self.trials:
            self.trials[key] = self._measured(chosen)
        return self.trials[key]

    def plan(self, trial: Trial) -> Plan:
        """The plan of a trial."""
        return self._plan(trial.choices)

    def _plan(self, chosen: Mapping[str, str]) -> Plan:
        (choice, plan), *_ = self.plans.items()  # one so far
        floats = [n for n in plan.nodes if chosen.get(n, FLOAT) != choice]
        return plan.without(*floats, reason=REASON)

    def _whole_attention(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """The choices with the attentions that would be float in part left float as a whole."""
        found = dict(chosen)
        graph = self.meter.source.graph
        while True:
            quantized = {n for n, choice in found.items() if choice != FLOAT}
            broken = broken_attention(graph, quantized)
            # what the plan never quantizes breaks no more than it did
            broken = {n: why for n, why in broken.items() if why in self.nodes}
            if not broken:
                return found
            found |= dict.fromkeys(broken, FLOAT)

    def _measured(self, chosen: Mapping[str, str]) -> Trial:
        graph = self.meter.model(self._plan(chosen))
        found = self.meter.measure(graph)
        modelled = self.costs.total(chosen)
        cost = self.meter.latency(graph) if self.priced in MEASURED else modelled
        higher = self.meter.metric.higher_is_better
        holds = self.budget is None or self.budget.holds(
            found.score, self.meter.reference, cost, higher
        )
        index = {choice: i for i, choice in enumerate(self.choices)}
        picked = [index[chosen.get(n, FLOAT)] for n in self.nodes]
        predicted = self._damage[np.arange(len(picked)), picked].sum(axis=0).max()
        return Trial(
            choices={n: c for n, c in chosen.items() if c != FLOAT},
            floats=tuple(n for n in self.nodes if chosen.get(n, FLOAT) == FLOAT),
            cost=cost,
            modelled=modelled,
            share=self.costs.share(chosen),
            predicted=float(predicted),
            score=found.score,
            stderr=found.stderr,
            parts=found.parts,
            holds=holds,
        )
