"""From sums to a ranking: scores, damage, spread, order.

    one-on    damage = damage(unit alone quantized)
    one-off   damage = damage(all quantized) - damage(all but the unit)

at the output where it is largest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.metrics import LABEL_FREE, AnyMetric, FunctionMetric, is_told
from onnxq.judge.spread import CERTAIN, Totals, jackknife, scores, worst
from onnxq.sensitivity.ranking import Row, Score
from onnxq.sensitivity.screen import Screen
from onnxq.sensitivity.state import State
from onnxq.sensitivity.toggles import ALL, FLOAT, PARTS, Part, Unit, toggle_name


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

    def scores(self, totals: Totals) -> dict[str, float]:
        """The score at each tensor."""
        return scores(self.metric, totals)

    def worst(self, totals: Totals) -> float:
        """The score at the worst tensor."""
        return worst(self.metric, totals)

    def read(self, totals: Totals) -> Reading:
        """The score of a toggle, with its damage at the tensor where that is largest."""
        damage, spread = [], []
        for name, sums in totals.items():
            read = [sums, *(t[name] for t in (self.reference, self.quantized) if t is not None)]
            everything = [t.sum(axis=0) for t in read]
            damage.append(self._damage(everything))
            spread.append(self._damage([e - t for e, t in zip(everything, read, strict=True)]))
        left_out = np.max(spread, axis=0)
        score = Score(self.worst(totals), float(np.max(damage)), self._stderr(totals, left_out))
        return Reading(score, left_out)

    def _damage(self, totals: Sequence[Array]) -> Array:
        float_sums = totals[0] if self.reference is None else totals[1]
        damage = self.metric.damage(totals[0], float_sums)
        if self.quantized is None:
            return damage
        return np.asarray(self.metric.damage(totals[-1], float_sums) - damage)

    def _stderr(self, totals: Totals, spread: Array) -> float | None:
        """Standard error of a damage; None for a single sample."""
        if not isinstance(self.metric, FunctionMetric):
            return jackknife(spread)
        error = float(totals[""][0, 1])
        return error if math.isfinite(error) else None


class Readings:
    """What measured sums say of each unit, read from the samples that it is scored on.

    A one-off score is held against that of everything quantized over the same samples.
    """

    def __init__(self, state: State, metric: AnyMetric, screen: Screen) -> None:
        self.state, self.metric, self.screen = state, metric, screen
        ranges = {screen.few, screen.everything} if screen.confirmed else {screen.few}
        self._judges = {samples: self._judge(samples) for samples in ranges}

    def _judge(self, samples: range) -> Judge:
        return Judge(
            self.metric,
            None if self.metric.name in LABEL_FREE else self.totals(FLOAT, samples),
            self.totals(ALL, samples) if self.state.has(ALL, [0]) else None,
        )

    def totals(self, toggle: str, samples: Iterable[int]) -> Totals:
        """The sums of a toggle over these samples, or a function's one result over all."""
        return self.state.totals(
            toggle, [0] if isinstance(self.metric, FunctionMetric) else samples
        )

    def judge(self) -> Judge:
        """What reads scores over all samples; for a screen with something confirmed, or without
        samples that are left out."""
        return self._judges[self.screen.everything]

    def tells(self, units: Iterable[Unit]) -> bool:
        """Whether some unit was scored on at least one value."""
        if isinstance(self.metric, FunctionMetric):
            return True
        return any(is_told(sums) for u in units for sums in self._totals(u).values())

    def _totals(self, unit: Unit, part: Part = "both") -> Totals:
        return self.totals(toggle_name(unit, part), self.screen.of(unit.name))

    def _read(self, unit: Unit, part: Part = "both") -> Reading:
        return self._judges[self.screen.of(unit.name)].read(self._totals(unit, part))

    def damage(self, unit: Unit) -> float:
        """The damage that a unit does."""
        return self._read(unit).score.damage

    def reading(self, unit: Unit) -> Reading:
        """The score of a unit, and beside one over all samples that over a screen's few."""
        few = self.screen.few
        if self.screen.of(unit.name) == few:
            return self._read(unit)
        first = self._judges[few].read(self.totals(toggle_name(unit, "both"), few))
        return replace(self._read(unit), few=first)

    def outputs(self, unit: Unit) -> dict[str, float]:
        """Its score at each tensor."""
        return scores(self.metric, self._totals(unit))

    def parts(self, unit: Unit) -> dict[str, Score]:
        """The scores of its parts that were measured."""
        measured = [p for p in PARTS if self.state.has(toggle_name(unit, p), [0])]
        return {part: self._read(unit, part).score for part in measured}


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
