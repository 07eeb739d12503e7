"""One value for everything a quantizing run may be told: the composed configuration."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from onnxq.calib.methods import Auto, parse_method
from onnxq.calib.preprocess import preprocess_of
from onnxq.errors import PlanError
from onnxq.files import write_text
from onnxq.model.feedback import parse_feedback
from onnxq.option import Said, option, settle
from onnxq.passes.fix_inputs import fixed
from onnxq.recover.choice import ALGORITHMS, parse
from onnxq.run.providers import CHOICES as PROVIDERS
from onnxq.targets.options import PlanOptions


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Config:
    """How to quantize; the defaults are what `onnxq quantize MODEL --calib DATA` does.

    placement: where Q/DQ goes. weights_as: "auto" is int, and float where TensorRT would else
    multiply in float. recover: "auto" is channels and bias where weights have 8 bits or fewer, with
    round where they have 4.
    """

    placement: PlanOptions = field(default_factory=PlanOptions)
    method: str = option(
        "mse", "How ranges are read: max, percentile[:P], mse, entropy or auto.", "Calibration",
        "METHOD",
    )  # fmt: skip
    weight_method: Literal["max", "mse"] = option("max", "How weight ranges are read.", "Precision")
    high_precision: Literal["fp32", "fp16", "bf16"] = option(
        "fp32", "Type of what is not quantized.", "Precision"
    )
    weights_as: Literal["auto", "int", "float"] = option(
        "auto", "Write INT8 weights with a DequantizeLinear, or float weights with a Q/DQ pair.",
        "Precision",
    )  # fmt: skip
    io: Literal["keep", "half"] = option(
        "keep",
        "Inputs and outputs of a half-precision model: keep the types, or make them half.",
        "Precision",
    )
    recover: str = option(
        "auto", f"none, all, or some of {', '.join(ALGORITHMS)} separated by commas; each "
        "stays only if it helps samples that it did not see. auto: channels, bias, and round for "
        "4-bit weights.", "Recovery", "LIST",
    )  # fmt: skip
    max_memory: int = option(
        1024, "Limit on the tensors that a recovery keeps.", "Running", "MB", least=1
    )
    samples: int | None = option(
        None, "Use this many samples, evenly spread, or drawn with --seed. Default: all.",
        "Calibration", "N", least=1,
    )  # fmt: skip
    seed: int | None = option(
        None, "Draw --samples, and random data, with this seed. Default: do not draw.",
        "Calibration",
    )  # fmt: skip
    preprocess: str | None = option(
        None, "How images become inputs: yolo, imagenet, or a YAML file of your own.",
        "Calibration", "NAME",
    )  # fmt: skip
    workers: int = field(
        default_factory=_cores,
        metadata=Said(
            "Samples in flight; the ranges do not depend on it. Default: all cores.", "Running",
            "N", least=1,
        ).metadata,
    )  # fmt: skip
    check_samples: int | None = option(
        None, "Samples held out of calibration to compare FP32 with INT8. Default: 8; with more "
        "than 128 samples one in 16, up to 64 and to about a second of inference.",
        "Calibration", "N", least=0,
    )  # fmt: skip
    fix: tuple[str, ...] = option(
        (), "Make an input a constant, such as sr=16000: the branches of an If that it chooses "
        "become part of the graph. Repeatable.", "Placement", "NAME=VALUE",
    )  # fmt: skip
    feedback: tuple[str, ...] = option(
        (), "Feed an output back as the next sample's input, such as state_out=state; the data are "
        "sequences (docs/data.md). none: feed back nothing, whatever the model remembers. "
        "Repeatable.",
        "Calibration", "OUT=IN",
    )  # fmt: skip
    requantize: bool = option(False, "Take the Q/DQ out of MODEL first.", "Placement")
    allow_nonfinite: bool = option(False, "Drop samples that hold NaN or Inf.", "Calibration")
    external_data: bool = option(False, "Write the weights to a file beside the model.", "Output")
    provider: str = option(
        "cpu", "Where ONNX Runtime runs; cuda,cpu falls back to the CPU if CUDA fails.", "Running",
        choices=PROVIDERS,
    )  # fmt: skip
    ort_library: str | None = option(
        None, "Shared library with custom ops.", "Running", place="read"
    )
    cache: str | None = option(
        None, "Keep statistics in this folder, and reuse those of the same model and data.",
        "Calibration", "DIR", place="folder",
    )  # fmt: skip
    ort_extension: str | None = option(
        None, "Python module, or .py file, that declares custom ops with onnxruntime-extensions.",
        "Running", "MODULE",
    )  # fmt: skip

    def __post_init__(self) -> None:
        settle(self)
        if self.samples is not None and self.samples < 1:
            raise PlanError(f"--samples {self.samples}: at least one sample is needed")
        placement = replace(self.placement, high_precision=self.high_precision)
        object.__setattr__(self, "placement", placement)  # some rules look at the type around them
        parse(self.recover)
        fixed(self.fix)
        parse_feedback(self.feedback)
        if self.preprocess is not None:
            preprocess_of(self.preprocess)
        if self.max_memory < 1:
            raise PlanError(f"--max-memory {self.max_memory}: give a positive number of MB")
        if self.workers < 1:
            raise PlanError(f"--workers {self.workers}: at least one worker is needed")
        if isinstance(parse_method(self.method), Auto) and self.check_samples == 0:
            raise PlanError(
                "--method auto judges by samples held out of the calibration; "
                "--check-samples 0 keeps none"
            )

    @property
    def scale_dtype(self) -> str:
        """The type that scales are rounded to."""
        return {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[self.high_precision]

    @property
    def stored_as(self) -> Literal["int", "float"]:
        """How weights are written where nothing speaks for the other way."""
        return "float" if self.weights_as == "float" else "int"

    def save(self, path: str | Path) -> None:
        """Write the configuration as YAML that `--config` reads."""
        write_text(Path(path), yaml.safe_dump(self.flat(), sort_keys=False))

    def flat(self) -> dict[str, Any]:
        """One mapping of option names to values: the form `--config` reads."""
        options = asdict(self)
        placement = options.pop("placement")
        merged = {**placement, **options}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in merged.items()}
