"""What a sensitivity analysis may be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onnxq.arrays import Array
from onnxq.errors import PlanError
from onnxq.judge import metrics
from onnxq.judge.metrics import LABEL_FREE, AnyMetric
from onnxq.option import option, settle


@dataclass(frozen=True)
class Options:
    """How nodes are scored.

    groups: patterns, of what granularity "group" toggles; without them, blocks by names. labels:
    for top1, one a row of every sample, in order. curve: numbers of worst nodes to leave float.
    screen: for metrics without labels. top: how many of the worst are sure to be, ten at least.
    max_memory: bytes.
    """

    mode: Literal["one-on", "one-off"] = option(
        "one-on", "Quantize each alone, or leave each alone float.", "Ranking"
    )
    granularity: Literal["node", "group"] = option(
        "node", "Toggle single nodes, or blocks by their names.", "Ranking"
    )
    groups: tuple[str, ...] = option(
        (), "With --granularity group: toggle these nodes together. Repeatable.", "Ranking",
        "PATTERN", flag="--group",
    )  # fmt: skip
    split: bool = option(False, "Score activations and weights apart too.", "Ranking")
    metric: str = option(
        "sqnr", f"{', '.join(LABEL_FREE)}, top1, or module:function of the streamed outputs.",
        "Scoring", "METRIC",
    )  # fmt: skip
    labels: Array | None = None
    direction: Literal["higher", "lower"] = option(
        "higher", "Whether higher or lower scores of a module:function are better.", "Scoring"
    )
    at: Literal["outputs", "node"] = option(
        "outputs", "Score the model's outputs, or what the node writes.", "Scoring"
    )
    outputs: tuple[str, ...] = option(
        (), "Score this output. Repeatable; default: all, ranked by the worst.", "Scoring", "NAME",
        flag="--output",
    )  # fmt: skip
    apart: bool = option(
        True, "If an output is a Concat, score each branch on its own, such as boxes and classes.",
        "Scoring", flag="--apart/--together",
    )  # fmt: skip
    curve: tuple[int, ...] = option(
        (), "Score with the worst K left float, for each K.", "Ranking", "K,..."
    )
    screen: float = option(
        0.25, "Score all nodes on this share of the samples, and the worst on all samples; 1: all "
        "on all, as always with scores beside boxes.", "Ranking", "SHARE", above=0, most=1,
    )  # fmt: skip
    top: int = option(10, "Rows to print, and to write to --write-skip.", "Ranking", "N", least=1)
    max_memory: int = option(
        1 << 30, "Limit on the tensors kept to save work.", "Running", "MB", least=1, unit=1 << 20
    )
    resume: Path | None = option(
        None, "Keep results in this file, and go on from them.", "Running", "FILE.json",
        place="write",
    )  # fmt: skip
    whole: bool = option(
        False, "Run the whole model for each node: slow, to check with.", "Running"
    )

    def __post_init__(self) -> None:
        settle(self)
        metrics.check(self.metric)
        if not 0 < self.screen <= 1:
            raise PlanError(
                f"screen {self.screen}: give a share of the samples, above 0 and up to 1"
            )
        if self.max_memory < 1:
            raise PlanError(f"max_memory {self.max_memory}: give a positive number of bytes")
        if any(k < 0 for k in self.curve):
            raise PlanError(f"curve {self.curve}: numbers of nodes are not negative")
        if self.at == "node" and self.metric not in LABEL_FREE:
            raise PlanError(
                f"metric '{self.metric}' looks at the model's outputs; at a node choose one of "
                f"{', '.join(LABEL_FREE)}"
            )


def metric_of(options: Options, samples: int) -> AnyMetric:
    """The metric that the options name, for that many samples; raises as `judge.metrics` does."""
    return metrics.metric_of(options.metric, samples, options.labels, options.direction)
