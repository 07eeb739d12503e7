"""What a sensitivity analysis may be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from onnxq.calib.weights import weight_mse
from onnxq.errors import PlanError
from onnxq.judge import metrics
from onnxq.judge.metrics import LABEL_FREE, AnyMetric
from onnxq.numerics import amax_of
from onnxq.passes.insert_qdq import InsertOptions
from onnxq.pipeline.config import Config
from onnxq.run.runtime import Runtime

CHOICES = {
    "mode": ("one-on", "one-off"),
    "granularity": ("node", "group"),
    "at": ("outputs", "node"),
    "direction": ("higher", "lower"),
}


@dataclass(frozen=True)
class Options:
    """How nodes are scored.

    mode: quantize each alone ("one-on"), or leave each alone float ("one-off"). granularity: toggle
    nodes, or groups: those that `groups` (patterns) name, or blocks by their names. split: score
    activations and weights apart too. metric: sqnr, mse, cosine, kl, top1 or module:function.
    labels: for top1, one a row of every sample, in order. direction: which scores of a
    module:function are better. at: score the model's outputs, or what the node itself writes.
    outputs: names of the outputs to score; none for all. curve: numbers of worst nodes to leave
    float. screen: share of the samples that all are scored on first; the worst are then scored on
    all samples, for metrics without labels (1: everything on all). top: how many of the worst are
    sure to be, ten at least. max_memory: bytes of cached tensors. resume: file that holds the work
    done so far. whole: rebuild and run the whole model for every toggle, which is slow, to check
    with.
    """

    mode: Literal["one-on", "one-off"] = "one-on"
    granularity: Literal["node", "group"] = "node"
    groups: tuple[str, ...] = ()
    split: bool = False
    metric: str = "sqnr"
    labels: npt.NDArray[Any] | None = None
    direction: Literal["higher", "lower"] = "higher"
    at: Literal["outputs", "node"] = "outputs"
    outputs: tuple[str, ...] = ()
    curve: tuple[int, ...] = ()
    screen: float = 0.25
    top: int = 10
    max_memory: int = 1 << 30
    resume: Path | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise PlanError(f"unknown {name} '{value}'; choose {' or '.join(choices)}")
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


@dataclass(frozen=True)
class Execution:
    """Where and how wide models run, and how Q/DQ is written into them."""

    runtime: Runtime = field(default_factory=Runtime)
    workers: int = 2
    insert: InsertOptions = field(default_factory=InsertOptions)


def execution_of(config: Config) -> Execution:
    """Where and how this configuration runs and quantizes."""
    library = Path(config.ort_library) if config.ort_library else None
    where = Runtime(config.provider, library, config.ort_extension)
    weight_range = weight_mse if config.weight_method == "mse" else amax_of
    insert = InsertOptions(config.stored_as, config.scale_dtype, weight_range)
    return Execution(where, config.workers, insert)


def metric_of(options: Options, samples: int) -> AnyMetric:
    """The metric that the options name, for that many samples; raises as `judge.metrics` does."""
    return metrics.metric_of(options.metric, samples, options.labels, options.direction)
