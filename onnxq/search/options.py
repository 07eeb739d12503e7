"""What a search may be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onnxq.arrays import Array
from onnxq.cost.devices import DEVICES
from onnxq.cost.pricing import Price
from onnxq.errors import PlanError
from onnxq.judge.metrics import LABEL_FREE
from onnxq.option import option, settle
from onnxq.search.budget import Budget
from onnxq.sensitivity import Options


@dataclass(frozen=True)
class SearchOptions:
    """How a search goes.

    budget: what has to hold, if anything. cost: see `onnxq.cost.counted`. labels: for top1.
    rank_by: the label-free metric whose damage is added up.
    """

    budget: Budget | None
    cost: str = option(
        "ops", f"ops, bytes, size (of the weights), roofline:DEVICE ({', '.join(DEVICES)}), "
        "PROFILE.json (times of your device, by trtexec --exportProfile) or ort (measured here).",
        "Search", "COST",
    )  # fmt: skip
    layers: Path | None = option(
        None, "With --cost PROFILE.json: layers of that engine, by trtexec --exportLayerInfo; "
        "needed if it has Q/DQ.", "Search", "FILE", place="read",
    )  # fmt: skip
    rates: str | None = option(
        None, "Speed, relative to FP16, of types that the profile lacks. Default: "
        "int8=2,fp8=2,bf16=1,fp32=0.5.", "Search", "TYPE=N,...",
    )  # fmt: skip
    metric: str | None = option(
        None, f"What is measured: {', '.join(LABEL_FREE)}, top1, or module:function. "
        "Default: cosine for --max-drop, else sqnr.", "Scoring", "METRIC",
    )  # fmt: skip
    labels: Array | None = None
    direction: Literal["higher", "lower"] = option(
        "higher", "Whether higher or lower scores of a module:function are better.", "Scoring"
    )
    rank_by: str = option(
        "sqnr", "What ranks the nodes; needs no labels.", "Search", choices=tuple(LABEL_FREE)
    )
    outputs: tuple[str, ...] = option(
        (), "Score this output. Repeatable; default: all, by the worst.", "Scoring", "NAME",
        flag="--output",
    )  # fmt: skip
    apart: bool = option(
        True, "If an output is a Concat, score each branch on its own, such as boxes and classes.",
        "Scoring", flag="--apart/--together",
    )  # fmt: skip
    rank_samples: int = option(
        16, "Calibration samples to rank the nodes on.", "Search", "N", least=1
    )
    trials: int = option(
        10, "Measure at most this many plans to meet the budget.", "Search", "N", least=1
    )
    points: int = option(
        5, "Also measure plans at this many evenly spaced costs.", "Search", "N", least=0
    )

    def __post_init__(self) -> None:
        settle(self)
        _ = self.price
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
    def price(self) -> Price:
        """By what plans are priced; raises PlanError as `Price` does."""
        return Price(self.cost, self.layers, self.rates)

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
