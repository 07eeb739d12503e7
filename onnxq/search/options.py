"""What a search may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

from onnxq.errors import PlanError
from onnxq.judge.metrics import LABEL_FREE
from onnxq.search import cost
from onnxq.search.budget import Budget
from onnxq.sensitivity import Options


@dataclass(frozen=True)
class SearchOptions:
    """How a search goes.

    budget: what has to hold, if anything. cost: how plans are priced (`onnxq.search.cost`).
    metric: of the measured score: a label-free one, top1 with `labels`, or module:function; by
    default cosine for a drop and SQNR for the others. rank_by: the label-free metric whose damage
    is added up. outputs: names of the outputs to score; none for all. apart: score the branches
    of an output that is a Concat each on its own. rank_samples: how many samples to rank on.
    trials: how many plans to measure in pursuit of the budget. points: at how many costs to
    measure besides.
    """

    budget: Budget | None
    cost: str = "ops"
    metric: str | None = None
    labels: npt.NDArray[Any] | None = None
    direction: Literal["higher", "lower"] = "higher"
    rank_by: str = "sqnr"
    outputs: tuple[str, ...] = ()
    apart: bool = True
    rank_samples: int = 16
    trials: int = 10
    points: int = 5

    def __post_init__(self) -> None:
        cost.check(self.cost)
        if self.rank_by not in LABEL_FREE:
            raise PlanError(f"cannot rank by '{self.rank_by}'; choose {', '.join(LABEL_FREE)}")
        if min(self.rank_samples, self.trials) < 1 or self.points < 0:
            raise PlanError("rank_samples and trials are at least 1, points at least 0")
        if self._kind == "sqnr" and self.measured_by != "sqnr":
            raise PlanError(f"--min-sqnr and --metric {self.metric} contradict each other; give "
                            "--max-drop with that metric")  # fmt: skip
        if self._kind == "drop" and self.measured_by in ("sqnr", "mse", "kl"):
            raise PlanError(
                f"metric '{self.measured_by}' has no score of the float model to drop from; use "
                "--metric cosine, top1 or module:function, or --min-sqnr"
            )

    @property
    def measured_by(self) -> str:
        """The metric of the measured score."""
        return self.metric or ("cosine" if self._kind == "drop" else "sqnr")

    @property
    def _kind(self) -> str | None:
        return None if self.budget is None else self.budget.kind

    def judging(self) -> Options:
        """The same choices as sensitivity analysis takes them; raises as `Options` does."""
        return Options(metric=self.measured_by, labels=self.labels, direction=self.direction)
