"""What a plan has to keep to: a drop of the score, a least SQNR, or a largest cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from onnxq.errors import PlanError


@dataclass(frozen=True)
class Budget:
    """One bound.

    kind: "drop" of the score below the float model's (`relative`: as a share of it), least "sqnr"
    in dB, least "agreement" as a share, or largest "cost" as a share of the float model's.
    """

    kind: Literal["drop", "sqnr", "agreement", "cost"]
    limit: float
    relative: bool = False

    def holds(self, score: float, reference: float, cost: float, higher: bool) -> bool:
        """Whether a measured score and cost keep to it; `reference`: the float model's score."""
        if self.kind == "cost":
            return cost <= self.limit + 1e-9
        if self.kind in ("sqnr", "agreement"):
            return score >= self.limit
        drop = reference - score if higher else score - reference
        return drop <= self.limit * (abs(reference) if self.relative else 1.0) + 1e-12

    def __str__(self) -> str:
        if self.kind == "sqnr":
            return f"SQNR of at least {self.limit:g} dB"
        if self.kind == "agreement":
            return f"agreement of at least {100 * self.limit:g}%"
        if self.kind == "cost":
            return f"cost of at most {self.limit:g}"
        return f"drop of at most {100 * self.limit:g}%" if self.relative else (
            f"drop of at most {self.limit:g}"
        )  # fmt: skip


def budget_of(
    max_drop: str | None = None, min_sqnr: float | None = None, max_cost: float | None = None
) -> Budget:
    """The budget that exactly one of these states; raises PlanError for none, two or nonsense."""
    given = {"--max-drop": max_drop, "--min-sqnr": min_sqnr, "--max-cost": max_cost}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise PlanError(
            f"{' and '.join(named)} contradict each other; give one budget" if named else
            "no budget; give --max-drop 0.5%, --min-sqnr 20 or --max-cost 0.6"
        )  # fmt: skip
    if max_drop is not None:
        return _drop(max_drop)
    if min_sqnr is not None:
        if not math.isfinite(min_sqnr):
            raise PlanError(f"--min-sqnr {min_sqnr}: give a number of dB, such as 20")
        return Budget("sqnr", min_sqnr)
    assert max_cost is not None
    if not 0 < max_cost <= 1:
        raise PlanError(f"--max-cost {max_cost}: give a share of the float model's, 0 to 1")
    return Budget("cost", max_cost)


def _drop(text: str) -> Budget:
    number, relative = text.removesuffix("%").strip(), text.endswith("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise PlanError(f"--max-drop '{text}': write 0.5% of the float score, or a number of its "
                        "units such as 0.5")  # fmt: skip
    return Budget("drop", value / 100 if relative else value, relative)
