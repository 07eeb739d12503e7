"""How an error grows along sequences: the first step of each against the last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxq.judge.agreement import Agreement
from onnxq.run.closed_loop import feeds_back


@dataclass(frozen=True)
class Along:
    """A part of the outputs over sequences of up to `steps` samples: how near the first samples
    are, and the last. Of sequences of one sample they are the same."""

    steps: int
    first: Agreement
    last: Agreement

    def as_dict(self) -> dict[str, float]:
        """For a report, rounded."""
        return {"steps": self.steps, "first_db": _rounded(self.first.sqnr_db),
                "last_db": _rounded(self.last.sqnr_db)}  # fmt: skip

    def line(self, part: str) -> str:
        """What it comes to, in words."""
        return (f"fed back its own states over {self.steps} samples in a row: '{part}' has "
                f"{self.first.sqnr_db:.2f} dB at the first and {self.last.sqnr_db:.2f} dB at the "
                "last")  # fmt: skip


@dataclass
class Course:
    """Adds up the first and the last steps, part by part, of the samples that a model is run over
    in their order."""

    samples: object
    _first: dict[str, Agreement] = field(default_factory=dict)
    _last: dict[str, Agreement] = field(default_factory=dict)
    _step: int = 0
    _steps: int = 0
    _ends: bool = False

    def at(self, i: int) -> None:
        """What is added next is of sample i."""
        if feeds_back(self.samples):
            self._step = self._step + 1 if self.samples.follows(i) else 1
            self._steps = max(self._steps, self._step)
            self._ends = i + 1 == len(self.samples) or not self.samples.follows(i + 1)

    @property
    def wants(self) -> bool:
        """Whether the sample is the first or the last of a sequence."""
        return self._step == 1 or self._ends

    def add(self, part: str, found: Agreement) -> None:
        """Add what a part comes to in the sample, if that is wanted."""
        if self._step == 1:
            self._first[part] = self._first.get(part, Agreement()) + found
        if self._ends:
            self._last[part] = self._last.get(part, Agreement()) + found

    def found(self) -> Mapping[str, Along]:
        """By part; nothing where no sample follows another."""
        if self._steps < 2:
            return {}
        return {
            part: Along(self._steps, first, self._last[part])
            for part, first in self._first.items()
            if part in self._last
        }


def _rounded(decibels: float) -> float:
    return round(decibels, 3) if math.isfinite(decibels) else decibels
