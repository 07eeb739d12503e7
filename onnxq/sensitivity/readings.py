"""What measured sums say of each unit, read from the samples that it is scored on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from onnxq.judge.metrics import LABEL_FREE, AnyMetric, FunctionMetric, is_told
from onnxq.sensitivity.analysis import Judge, Reading, Totals
from onnxq.sensitivity.ranking import Score
from onnxq.sensitivity.screen import Screen
from onnxq.sensitivity.state import State
from onnxq.sensitivity.toggles import ALL, FLOAT, PARTS, Part, Unit, toggle_name


class Readings:
    """Scores of units. A one-off score is held against that of everything quantized over the same
    samples."""

    def __init__(self, state: State, metric: AnyMetric, screen: Screen) -> None:
        self.state, self.metric, self.screen = state, metric, screen
        few = self._judge(screen.few)
        self._judges = {screen.few: few}
        if screen.confirmed:
            self._judges[screen.everything] = self._judge(screen.everything)

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
        found = (self.totals(toggle_name(u, "both"), self.screen.of(u.name)) for u in units)
        return any(is_told(sums) for totals in found for sums in totals.values())

    def _read(self, unit: Unit, part: Part, samples: range) -> Reading:
        found = self.totals(toggle_name(unit, part), samples)
        return self._judges[samples].read(found)

    def damage(self, unit: Unit) -> float:
        """The damage that a unit does."""
        return self._read(unit, "both", self.screen.of(unit.name)).score.damage

    def reading(self, unit: Unit) -> Reading:
        """The score of a unit, and beside one over all samples that over a screen's few."""
        found = self._read(unit, "both", self.screen.of(unit.name))
        if self.screen.of(unit.name) == self.screen.few:
            return found
        return replace(found, few=self._read(unit, "both", self.screen.few))

    def outputs(self, unit: Unit) -> dict[str, float]:
        """Its score at each tensor."""
        samples = self.screen.of(unit.name)
        return self._judges[samples].scores(self.totals(toggle_name(unit, "both"), samples))

    def parts(self, unit: Unit) -> dict[str, Score]:
        """The scores of its parts that were measured."""
        return {
            part: self._read(unit, part, self.screen.of(unit.name)).score
            for part in PARTS
            if self.state.has(toggle_name(unit, part), [0])
        }
