"""The ranges of a model's tensors: from files to statistics, and to ranges by one method."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnxq.calib.enough import PARTS
from onnxq.calib.stats import merge
from onnxq.errors import DataError, PlanError
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source, prepare
from onnxq.pipeline.steps import calibrate, calibrate_parts, data, how_enough, plan, read
from onnxq.progress import Progress, silent, told

if TYPE_CHECKING:
    from onnxq.calib.enough import Enough
    from onnxq.calib.ranges import Ranges
    from onnxq.calib.stats import Stats
    from onnxq.plan import Plan


@dataclass(frozen=True)
class Calibrated:
    """The ranges that a plan needs, and what they were read off. enough: what twice the data would
    change, where that was asked for."""

    source: Source
    plan: Plan
    stats: Stats
    ranges: Ranges
    enough: Enough | None = None


@told
def calibrate_model(
    model: str | Path,
    calib: Sequence[str],
    config: Config | None = None,
    *,
    shard: tuple[int, int] | None = None,
    plan_from: Plan | None = None,
    stats_from: Stats | None = None,
    checkpoint: Path | None = None,
    progress: Progress = silent,
    executor: Executor | None = None,
    enough: bool = False,
) -> Calibrated:
    """Run a model file over data once and read the range of every tensor that needs one.

    shard: (K, N) takes each Nth sample from the Kth on; `merge_stats` adds the N statistics up.
    `stats_from` takes the place of `calib`. checkpoint: see `calibrate`. enough: say what twice
    the data would change; its parts are counted apart, without a checkpoint. Raises OnnxqError
    subclasses for whatever the user can mend.
    """
    config = config or Config()
    if bool(calib) == (stats_from is not None):
        raise DataError(
            "give either --calib DATA or --stats FILE, which is read; --save-stats writes"
        )
    if config.method.strip().lower() == "auto":
        raise PlanError("method 'auto' is judged at the model's outputs: use 'onnxq quantize'")
    if enough and stats_from is not None:
        raise DataError("--enough counts parts of the data: give --calib DATA, not statistics")
    source = prepare(model, config, plan_from)
    chosen = plan_from or plan(source, config)
    chosen.check_model(source.sha256)
    if enough:
        dataset = data(source, calib, config, shard)
        parts = calibrate_parts(source, chosen, dataset, PARTS, config, progress, executor)
        stats = merge(*parts)
        ranges = read(source, chosen, stats, config.method)
        found = how_enough(source, chosen, parts, ranges, config.method)
        return Calibrated(source, chosen, stats, ranges, found)
    if stats_from is None:
        dataset = data(source, calib, config, shard)
        stats = calibrate(source, chosen, dataset, config, progress, checkpoint, executor)
    else:
        stats = stats_from
        stats.check_model(source.sha256)
    return Calibrated(source, chosen, stats, read(source, chosen, stats, config.method))
