"""What a tuned model has to keep: one of three bounds, and how it is scored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from onnxq.errors import PlanError
from onnxq.judge.metrics import check
from onnxq.option import option, settle
from onnxq.search.budget import Budget, budget_of

COMPARED = ("sqnr", "mse", "kl")  # metrics that hold a model against the float one
SQNR, COSINE, AGREEMENT = "sqnr", "cosine", "agreement"


@dataclass(frozen=True)
class Goal:
    """Exactly one of `min_sqnr` (dB), `max_drop` and `agreement` (0 to 1), and of what.

    Raises PlanError for none, for several, and for a metric that has no drop.
    """

    min_sqnr: float | None = option(
        None, "Least SQNR of the worst part of the outputs, in dB.", "Search", "DB"
    )
    max_drop: str | None = option(
        None, "Largest drop of the score: 0.5% of the float model's, or 0.5 of its units.",
        "Search", "DROP",
    )  # fmt: skip
    agreement: float | None = option(
        None, "Least share, 0 to 1, of the float model's decisions that stay the same: top "
        "classes, detections (same class, IoU 0.5), what is above 0.5 behind a Sigmoid.",
        "Search", "SHARE",
    )  # fmt: skip
    metric: str | None = option(
        None, "The score of --max-drop: cosine (the default), top1 with --labels, or "
        "module:function.", "Scoring", "METRIC",
    )  # fmt: skip
    direction: Literal["higher", "lower"] = option(
        "higher", "Whether higher or lower scores of a module:function are better.", "Scoring"
    )
    outputs: tuple[str, ...] = option(
        (), "The output that top1 or --agreement looks at. Repeatable.", "Scoring", "NAME",
        flag="--output",
    )  # fmt: skip

    def __post_init__(self) -> None:
        settle(self)
        bounds = {"--min-sqnr": self.min_sqnr, "--max-drop": self.max_drop,
                  "--agreement": self.agreement}  # fmt: skip
        named = [flag for flag, bound in bounds.items() if bound is not None]
        if len(named) != 1:
            said = f"{' and '.join(named)} are several goals" if named else "there is no goal"
            raise PlanError(f"{said}; give one of --min-sqnr 20, --max-drop 0.5% and "
                            "--agreement 0.98")  # fmt: skip
        if self.agreement is not None and not 0 < self.agreement <= 1:
            raise PlanError(f"--agreement {self.agreement:g}: give a share, above 0 and up to 1")
        if self.metric is not None:
            self._check_metric(named[0])
        if self.outputs and self.scored_by not in ("top1", AGREEMENT):
            raise PlanError(f"--output names what top1 or --agreement looks at, but {named[0]} "
                            f"looks at {self.scored_by}; leave it out")  # fmt: skip
        _ = self.budget

    def _check_metric(self, flag: str) -> None:
        assert self.metric is not None
        check(self.metric)
        if flag != "--max-drop":
            raise PlanError(f"{flag} and --metric {self.metric} contradict each other; give "
                            "--max-drop with that metric")  # fmt: skip
        if self.metric in COMPARED:
            raise PlanError(
                f"metric '{self.metric}' has no score of the float model to drop from; use "
                "--metric cosine, top1 or module:function, or --min-sqnr"
            )

    @cached_property
    def budget(self) -> Budget:
        """The bound; raises PlanError for a number that is none."""
        if self.agreement is not None:
            return Budget("agreement", self.agreement)
        return budget_of(self.max_drop, self.min_sqnr)

    @property
    def scored_by(self) -> str:
        """The metric of the figure: sqnr, agreement, cosine, top1 or module:function."""
        if self.min_sqnr is not None:
            return SQNR
        return AGREEMENT if self.agreement is not None else self.metric or COSINE

    @property
    def runs_again(self) -> bool:
        """Whether the figure is of outputs, and not of the sums that every run compares by."""
        return self.scored_by not in (SQNR, COSINE)

    @property
    def higher_is_better(self) -> bool:
        """Which figures are better; only a function of the user's may say lower."""
        return ":" not in self.scored_by or self.direction == "higher"

    def holds(self, figure: float, reference: float) -> bool:
        """Whether a figure meets it, given the float model's; what is not a number does not."""
        if math.isnan(figure):
            return False
        return self.budget.holds(figure, reference, 0.0, self.higher_is_better)

    def __str__(self) -> str:
        of = self.scored_by if self.max_drop is not None else ""
        return f"{self.budget}{' in ' if of else ''}{of}"
