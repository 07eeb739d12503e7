"""The metrics, a file each. A new one is a file with a class like `Sqnr`, and a row here."""

from __future__ import annotations

from typing import Literal

from onnxq.arrays import Array
from onnxq.errors import DataError, PlanError
from onnxq.judge.metrics.cosine import Cosine
from onnxq.judge.metrics.function import FunctionMetric, load_function
from onnxq.judge.metrics.kl import Kl
from onnxq.judge.metrics.metric import LabelFree, Metric, Sums, is_told, sums_of
from onnxq.judge.metrics.mse import Mse
from onnxq.judge.metrics.sqnr import Sqnr
from onnxq.judge.metrics.top1 import Top1

__all__ = ["LABEL_FREE", "AnyMetric", "Cosine", "FunctionMetric", "Kl", "LabelFree", "Metric",
           "Mse", "Sqnr", "Sums", "Top1", "check", "is_told", "metric_of", "sums_of"]  # fmt: skip

AnyMetric = Metric | FunctionMetric
LABEL_FREE: dict[str, LabelFree] = {m.name: m for m in (Sqnr(), Mse(), Cosine(), Kl())}


def check(name: str) -> None:
    """Raises PlanError for the name of no metric; a module is not looked into."""
    if name not in (*LABEL_FREE, "top1") and not all(name.partition(":")):
        raise PlanError(
            f"unknown metric '{name}'; choose {', '.join(LABEL_FREE)}, top1 or module:function"
        )


def metric_of(
    name: str,
    samples: int,
    labels: Array | None = None,
    direction: Literal["higher", "lower"] = "higher",
) -> AnyMetric:
    """The metric of that name, for that many samples: label-free, top1 or module:function.

    Raises PlanError for one that cannot be imported, DataError for labels that do not fit.
    """
    if name == "top1":
        return Top1(_labels(labels, samples))
    if labels is not None:
        raise PlanError(f"metric '{name}' takes no labels; labels are for top1")
    if name in LABEL_FREE:
        return LABEL_FREE[name]
    return FunctionMetric(name, load_function(name), direction == "higher")


def _labels(labels: Array | None, samples: int) -> tuple[Array, ...]:
    if labels is None:
        raise DataError("metric 'top1' needs labels: one integer for each sample")
    if labels.dtype.kind not in "iu" or (labels.ndim > 1 and labels.size != len(labels)):
        raise DataError(f"labels are {labels.dtype} {labels.shape}; give one integer a sample")
    if not labels.size or labels.size % samples:
        raise DataError(
            f"there are {labels.size} labels for {samples} samples; give one for each, in order"
        )
    return tuple(labels.reshape(samples, -1))
