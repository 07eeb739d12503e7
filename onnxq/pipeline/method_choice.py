"""The method by which ranges are read: the one that the configuration names, or the best of some.

A method is judged by the model that it gives, as it will be written, on the samples to compare on.
"""

from __future__ import annotations

import math

from onnxq.calib.methods import Auto, parse_method
from onnxq.calib.observed import settle
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.judge.accuracy import Agreements
from onnxq.pipeline.comparing import FloatSide, compared
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source
from onnxq.pipeline.steps import insert, read, write_biases
from onnxq.plan import Plan
from onnxq.progress import steps

AUTO = ("mse", "max", "percentile:99.999", "entropy")
MOST_DB = 200.0  # in place of infinity
NO_CHOICE = "method auto: no float output could be compared, so none was better; mse was taken"


def is_auto(config: Config) -> bool:
    """Whether the configuration leaves the method open."""
    return isinstance(parse_method(config.method), Auto)


def choose(
    source: Source,
    plan: Plan,
    stats: Stats,
    side: FloatSide,
    config: Config,
) -> tuple[Ranges, dict[str, float]]:
    """Ranges by the configured method; for `auto` the one with the best SQNR at the outputs
    over the samples of `side`."""
    if not is_auto(config):
        return read(source, plan, stats, config.method), {}
    found: dict[str, tuple[float, Ranges]] = {}
    for method in steps("methods", AUTO, len(AUTO)):
        ranges = read(source, plan, stats, method)
        settled, _ = settle(source.graph, plan, ranges)
        graph = insert(source, settled, ranges, config)
        write_biases(graph, config)  # as it will be written: what is printed is of that
        found[method] = _mean_db(compared(side, graph, config)[0][-1]), ranges
    best = max(AUTO, key=lambda m: (found[m][0], m == "mse"))
    scores = {m: round(score, 3) for m, (score, _) in found.items() if math.isfinite(score)}
    return found[best][1], scores


def _mean_db(outputs: Agreements) -> float:
    """The mean SQNR over the parts of outputs, so that one cannot be bought with another's ruin;
    -inf where there is none, or one that is not a number."""
    decibels = [a.sqnr_db for a in outputs.judged.values()]
    if not decibels or any(map(math.isnan, decibels)):
        return -math.inf
    return sum(min(max(db, -MOST_DB), MOST_DB) for db in decibels) / len(decibels)
