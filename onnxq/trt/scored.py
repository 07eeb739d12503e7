"""What a metric of the user's says of two models, over the samples that they are compared on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxq.calib.data import Dataset
from onnxq.errors import PlanError
from onnxq.judge.metrics import FunctionMetric
from onnxq.judge.metrics.function import load_function
from onnxq.progress import count, stage
from onnxq.run.closed_loop import looped
from onnxq.run.runtime import Runtime
from onnxq.trt.runners import runner


@dataclass(frozen=True)
class Scores:
    """The score of either model, and its standard error; NaN where the function says none."""

    metric: str
    float_score: float
    float_error: float
    quantized_score: float
    quantized_error: float

    def as_dict(self) -> dict[str, Any]:
        """A JSON document; an error that is not known is left out."""
        found = {"metric": self.metric, "float": self.float_score, "float_stderr": self.float_error,
                 "quantized": self.quantized_score,
                 "quantized_stderr": self.quantized_error}  # fmt: skip
        return {k: v for k, v in found.items() if not (isinstance(v, float) and math.isnan(v))}


def metric_of(text: str) -> FunctionMetric:
    """The metric that `module:function` names; raises PlanError for anything else."""
    if not all(text.partition(":")):
        raise PlanError(f"--metric {text}: a comparison takes module:function; it has SQNR, cosine "
                        "and top classes by itself")  # fmt: skip
    return FunctionMetric(text, load_function(text))


def scored(
    metric: FunctionMetric, models: tuple[Path, Path], dataset: Dataset, runtime: Runtime | None
) -> Scores:
    """What a metric says of a float model and of another, or an engine, each run over the samples
    in order. Raises PlanError where the function fails."""
    with stage("metric"):
        pairs = [metric.evaluate(_outputs(model, dataset, runtime)) for model in models]
    return Scores(metric.name, *pairs[0], *pairs[1])


def _outputs(model: Path, dataset: Dataset, runtime: Runtime | None) -> Iterator[dict[str, Any]]:
    with runner(model, runtime) as one:
        run = looped(one, dataset)
        for i in range(len(dataset)):
            yield run(i, dataset.sample(i))
            count(i + 1, len(dataset))
