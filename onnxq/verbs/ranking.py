"""What each node of a model costs: from files to a ranking."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnxq.pipeline.config import Config
from onnxq.pipeline.reading import CalibrationData
from onnxq.pipeline.source import Source, prepare
from onnxq.pipeline.steps import calibrate, data, plan, read
from onnxq.progress import Progress, silent, told
from onnxq.verbs.evaluation import Evaluation

if TYPE_CHECKING:
    from onnxq.calib.data import Dataset
    from onnxq.calib.stats import Stats
    from onnxq.plan import Plan
    from onnxq.sensitivity import Options, Ranking

FEW = 32  # samples that rank as many do, where no labels are scored


@dataclass(frozen=True)
class Ranked:
    """The ranking of a model's nodes, and what it was made of."""

    source: Source
    plan: Plan
    stats: Stats
    ranking: Ranking


@told
def rank_nodes(
    model: str | Path,
    calib: CalibrationData,
    options: Options | None = None,
    config: Config | None = None,
    evaluation: Evaluation | None = None,
    *,
    plan_from: Plan | None = None,
    stats_from: Stats | None = None,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> Ranked:
    """The nodes of a model file by the damage that quantizing each does; writes nothing.

    Scored on 32 samples of `calib` where `evaluation` says nothing else, on all where labels or a
    function are scored. `plan_from` and `stats_from` replace the plan and the calibration by saved
    ones, which must be of this model. The workers of an `executor` count and score instead of this
    process, to the same bits. Raises OnnxqError subclasses for whatever the user can mend.
    """
    from onnxq.sensitivity import Options, sensitivity

    config, options = config or Config(), options or Options()
    source = prepare(model, config)
    chosen = plan_from or plan(source, config)
    chosen.check_model(source.sha256)
    dataset, judged, options = _samples(source, calib, options, config, evaluation or Evaluation())
    stats = stats_from or calibrate(source, chosen, dataset, config, progress, executor=executor)
    stats.check_model(source.sha256)
    ranges = read(source, chosen, stats, config.method)
    ranking = sensitivity(source, chosen, ranges, judged, options, config, progress, executor)
    return Ranked(source, chosen, stats, ranking)


def _samples(
    source: Source,
    calib: CalibrationData,
    options: Options,
    config: Config,
    evaluation: Evaluation,
) -> tuple[Dataset, Dataset, Options]:
    """(samples to calibrate on, samples to score, the options with their labels)."""
    from onnxq.sensitivity import metric_of

    labelled = evaluation.labels is not None
    everything = replace(config, samples=None)
    full = data(source, calib, everything if labelled else config)
    chosen = config.samples if labelled else None
    dataset = judged = full.subset(chosen, config.seed) if chosen else full
    if evaluation.data:
        full = judged = data(source, evaluation.data, everything)
    wants_all = options.metric == "top1" or ":" in options.metric
    few = evaluation.samples or (len(judged) if wants_all else FEW)
    if evaluation.samples or few < len(judged):
        judged = judged.subset(few, config.seed)
    if labelled:
        options = replace(options, labels=evaluation.labels_of(full, judged))
    metric_of(options, len(judged))  # refuses what does not fit before the model is run
    return dataset, judged, options
