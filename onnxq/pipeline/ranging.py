"""Statistics and ranges of a plan: made here, or given by who made them elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnxq.calib.observed import settle, taken
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.errors import DataError
from onnxq.pipeline.config import Config
from onnxq.pipeline.method_choice import choose
from onnxq.pipeline.opened import Opened
from onnxq.pipeline.recoveries import Learner
from onnxq.pipeline.source import Source
from onnxq.pipeline.steps import refuse_empty
from onnxq.plan import Plan


@dataclass(frozen=True)
class Given:
    """What was made elsewhere: statistics in place of the calibration, ranges in place of the
    method, and what learns behind the recoveries."""

    stats: Stats | None = None
    ranges: Ranges | None = None
    learner: Learner | None = None

    def of(self, source: Source) -> Given:
        """The same, with no counts as the statistics of ranges; raises DataError unless the ranges
        are of the source and stand alone."""
        if self.ranges is None:
            return self
        if self.stats is not None:
            raise DataError("--stats and --ranges both say what the ranges are; give one of them")
        self.ranges.check_model(source.sha256)
        return replace(self, stats=Stats(source.sha256, {}, 0))


@dataclass(frozen=True)
class Ranged:
    """A plan with the ranges of its tensors. scores: of each method, where one was chosen. notes:
    what has no range, and which nodes stay float for that."""

    plan: Plan
    ranges: Ranges
    scores: Mapping[str, float]
    notes: Sequence[str]


def ranged(
    source: Source,
    chosen: Plan,
    stats: Stats,
    ranges: Ranges | None,
    opened: Opened,
    config: Config,
) -> Ranged:
    """The plan, without what has no range, and the ranges: those given, or read off statistics."""
    scores: Mapping[str, float] = {}
    lacking: Sequence[str] = ()
    if ranges is None:
        ranges, scores = choose(source, chosen, stats, opened.side, config)
    else:
        chosen, ranges, lacking = taken(source.graph, chosen, ranges)
    unseen = {name for name, seen in stats.histograms.items() if not seen.count}
    chosen, notes = settle(source.graph, chosen, ranges, unseen)
    refuse_empty(chosen, source)
    return Ranged(chosen, ranges, scores, (*lacking, *notes))


def check_stats(stats: Stats, source: Source, float_source: Source) -> None:
    """Raises DataError unless the statistics are those of the graph that is quantized."""
    if source is not float_source and stats.model == float_source.sha256:
        raise DataError(
            "the statistics or ranges belong to the original model, and channels, smooth or "
            "equalize changed it; leave out --stats or --ranges, or those recoveries"
        )
    stats.check_model(source.sha256)
