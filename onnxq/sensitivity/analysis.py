"""From sums to a ranking: scores, damage, spread, order.

    one-on    damage = damage(unit alone quantized)
    one-off   damage = damage(all quantized) - damage(all but the unit)

at the output where it is largest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.metrics import AnyMetric, FunctionMetric
from onnxq.judge.verdict import CERTAIN
from onnxq.sensitivity.ranking import Row, Score

Totals = Mapping[str, Array]  # scored tensor -> sums [samples, K]


@dataclass(frozen=True)
class Reading:
    """A score, and its damage with each sample left out [samples].

    few: the same of the samples that all units are scored on, where these are more.
    """

    score: Score
    spread: Array
    few: Reading | None = None


@dataclass(frozen=True)
class Judge:
    """Reads scores and damage off sums.

    reference: the sums of the float model, where the metric takes them. quantized: those of the
    model with everything quantized, for "one-off"; else None.
    """

    metric: AnyMetric
    reference: Totals | None = None
    quantized: Totals | None = None

    def scores(self, found: Totals) -> dict[str, float]:
        """The score at each tensor."""
        return {name: float(self.metric.score(sums.sum(axis=0))) for name, sums in found.items()}

    def worst(self, found: Totals) -> float:
        """The score at the worst tensor."""
        scores = self.scores(found).values()
        return min(scores) if self.metric.higher_is_better else max(scores)

    def damage(self, found: Totals) -> tuple[float, Array]:
        """(the damage, the same with each sample left out in turn [samples])."""
        whole, spread = [], []
        for name, sums in found.items():
            totals = [sums, *(t[name] for t in (self.reference, self.quantized) if t is not None)]
            everything = [t.sum(axis=0) for t in totals]
            whole.append(self._damage(everything))
            spread.append(self._damage([e - t for e, t in zip(everything, totals, strict=True)]))
        return float(np.max(whole)), np.max(spread, axis=0)

    def _damage(self, totals: Sequence[Array]) -> Array:
        float_sums = totals[0] if self.reference is None else totals[1]
        found = self.metric.damage(totals[0], float_sums)
        if self.quantized is None:
            return found
        return np.asarray(self.metric.damage(totals[-1], float_sums) - found)

    def stderr(self, found: Totals, spread: Array) -> float | None:
        """Standard error of a damage; None for a single sample."""
        if isinstance(self.metric, FunctionMetric):
            return self._function_stderr(found)
        return jackknife(spread)

    def _function_stderr(self, found: Totals) -> float | None:
        error = float(found[""][0, 1])
        return error if math.isfinite(error) else None

    def read(self, found: Totals) -> Reading:
        """The score of a toggle."""
        damage, spread = self.damage(found)
        return Reading(Score(self.worst(found), damage, self.stderr(found, spread)), spread)


def jackknife(spread: Array) -> float | None:
    """Standard error from estimates with one sample left out each; None for a single sample."""
    n = len(spread)
    if n < 2 or not np.isfinite(spread).all():
        return None
    return float(np.sqrt((n - 1) / n * ((spread - spread.mean()) ** 2).sum()))


def ranked(rows: Sequence[Row], readings: Sequence[Reading]) -> tuple[Row, ...]:
    """The rows with the worst first, with ranks, ties and shares of the damage.

    A row is tied with the first of its rank where the difference of their damage is less than twice
    its standard error, or is nothing. Rows of different samples are compared on those of both.
    """
    order = sorted(range(len(rows)), key=lambda i: -rows[i].overall.damage)
    total = sum(max(row.overall.damage, 0.0) for row in rows)
    leaders: dict[int, int] = {}
    leader = order[0] if order else 0
    for i in order:
        if i != leader and not _same(readings[leader], readings[i]):
            leader = i
        leaders[i] = leader
    followers = list(leaders.values())
    place = {i: position for position, i in enumerate(order, 1)}
    return tuple(
        replace(
            rows[i],
            rank=place[leaders[i]],
            tied=followers.count(leaders[i]) > 1,
            share=_share(rows[i].overall.damage, total),
        )
        for i in order
    )


def _share(damage: float, total: float) -> float:
    if math.isinf(total):
        return float(math.isinf(damage))
    return max(damage, 0.0) / total if total > 0 else 0.0


def _same(a: Reading, b: Reading) -> bool:
    if len(a.spread) != len(b.spread):
        a, b = a.few or a, b.few or b
    gap = a.score.damage - b.score.damage
    if gap == 0:
        return True
    if a.score.stderr is None or b.score.stderr is None:
        return False
    error = jackknife(a.spread - b.spread)
    if error is None:  # a function's own errors
        error = math.hypot(a.score.stderr, b.score.stderr)
    return bool(abs(gap) < CERTAIN * error)
