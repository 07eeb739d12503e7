"""Golden outputs: what a device should give, kept, and what it gave, judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnxq.pipeline.config import Config
from onnxq.pipeline.feeding import as_remembered
from onnxq.pipeline.reading import CalibrationData
from onnxq.pipeline.source import open_model
from onnxq.pipeline.steps import data, runtime_of
from onnxq.progress import Progress, silent

if TYPE_CHECKING:
    from onnxq.trt.golden import Verdict


def save_golden(
    reference: str | Path,
    quantized: str | Path,
    calib: CalibrationData,
    out: str | Path,
    config: Config | None = None,
    progress: Progress = silent,
) -> int:
    """Keep samples with what a float model and its quantized form give for them, in ONNX Runtime;
    how many. Raises ModelError for models whose outputs differ in name, DataError for data that
    does not fit."""
    from onnxq.trt import golden
    from onnxq.trt.compare import in_order

    config = as_remembered(config or Config(), quantized)
    source = open_model(reference)
    in_order(source, quantized)
    dataset = data(source, calib, config)
    return golden.save(
        Path(reference), Path(quantized), dataset, Path(out), runtime_of(config), progress
    )


def judge_device(golden: str | Path, outputs: str | Path) -> Verdict:
    """What a device gave for golden inputs: each part of its outputs has to be as near to the float
    model as the quantized model is, within 3 dB over all samples and 6 dB in each.

    outputs: `.npz`, an array an output, samples along the first axis; or Polygraphy's
    `--save-outputs` JSON. Raises DataError for files that do not belong together.
    """
    from onnxq.trt import golden as golds
    from onnxq.trt.device_outputs import load_outputs

    kept = golds.load(golden)
    return golds.judge(kept, load_outputs(outputs, kept.samples))
