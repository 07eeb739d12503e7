"""`onnxq finetune` as a program calls it: quantize a model, and learn against the float one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from onnxq.finetune.missing import require
from onnxq.finetune.options import FinetuneOptions
from onnxq.model.model_file import ModelLike
from onnxq.pipeline import quantize as pipeline
from onnxq.pipeline.config import Config
from onnxq.pipeline.keywords import Keywords, composed
from onnxq.pipeline.reading import CalibrationData
from onnxq.plan import Plan
from onnxq.progress import Progress, silent
from onnxq.verbs.quantizing import Quantized

if TYPE_CHECKING:
    from onnxq.calib.stats import Stats


def finetune_model(
    model: ModelLike,
    calib: CalibrationData,
    config: Config | None = None,
    learning: FinetuneOptions | None = None,
    *,
    plan_from: Plan | None = None,
    stats_from: Stats | None = None,
    state: str | Path | None = None,
    progress: Progress = silent,
    **options: Unpack[Keywords],
) -> Quantized:
    """Quantize a model and learn its roundings, ranges and biases against the float model, block by
    block; no labels are needed.

    model, calib, config, plan_from, stats_from, progress, options: as of `quantize`; all samples
    are learned from but those that judge. learning: how much is learned, and where. state: a file
    where finished blocks are kept; a run that is killed goes on there, and whoever calls removes
    it.

    Writes no model: `save` of the result does. Needs torch, the extra `onnxq[finetune]`. Raises
    OnnxqError for whatever the user can mend, before anything runs for an op that it has no
    function for.
    """
    require()
    from onnxq.finetune.finetuning import Finetune

    config = composed(config, options)
    kept = None if state is None else Path(state)
    learner = Finetune(learning or FinetuneOptions(), config.seed or 0, kept, config.workers)
    made = pipeline.quantize(
        model, calib, config, plan_from=plan_from, stats_from=stats_from, learner=learner,
        progress=progress,
    )  # fmt: skip
    return Quantized(**vars(made))
