"""How long two models take, run in turns in this process."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

from onnxq.arrays import Sample
from onnxq.run.over import Loaded

LEAST, MOST = 5, 30  # rounds


def side_by_side(
    models: Sequence[Loaded], samples: Sequence[Sample], most: int = MOST, limit: float = math.inf
) -> tuple[float, ...]:
    """Seconds that each model takes for the samples: medians of rounds in which they take turns,
    so that whatever else the machine does meets them alike. `most` rounds; fewer, but five at
    least, once `limit` seconds are over."""
    seconds: list[list[float]] = [[] for _ in models]
    begun = time.perf_counter()
    for k in range(1 + most):
        if k > LEAST and time.perf_counter() - begun > limit:
            break
        for model, taken in zip(models, seconds, strict=True):
            feeds = [model.feed(sample) for sample in samples]
            start = time.perf_counter()
            for feed in feeds:
                model.run(feed)
            taken.append(time.perf_counter() - start)
    return tuple(statistics.median(taken[1:]) for taken in seconds)  # the first warms up
