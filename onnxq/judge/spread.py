"""Scores of sums over samples, and how far they scatter.

Totals are sums [samples, K] by scored tensor, as a metric makes them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.metrics import AnyMetric

Totals = Mapping[str, Array]
CERTAIN = 2.0  # standard errors


def scores(metric: AnyMetric, totals: Totals) -> dict[str, float]:
    """The score at each tensor."""
    return {name: float(metric.score(sums.sum(axis=0))) for name, sums in totals.items()}


def worst(metric: AnyMetric, totals: Totals) -> float:
    """The score at the worst tensor."""
    found = scores(metric, totals).values()
    return min(found) if metric.higher_is_better else max(found)


def stderr(metric: AnyMetric, totals: Totals) -> float | None:
    """The largest standard error of the score at a tensor; None if none is known."""
    with np.errstate(invalid="ignore"):
        spread = [metric.score(sums.sum(axis=0) - sums) for sums in totals.values()]
        errors = [jackknife(one) for one in spread]
    return max((error for error in errors if error is not None), default=None)


def jackknife(spread: Array) -> float | None:
    """Standard error from estimates with one sample left out each; None for a single sample."""
    n = len(spread)
    if n < 2 or not np.isfinite(spread).all():
        return None
    return float(np.sqrt((n - 1) / n * ((spread - spread.mean()) ** 2).sum()))
