"""One value for everything a quantizing run may be told: the composed configuration."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from onnxq.calib.methods import Auto, parse_method
from onnxq.errors import PlanError
from onnxq.files import write_text
from onnxq.recover.choice import parse
from onnxq.targets.options import PlanOptions


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Config:
    """How to quantize; the defaults are what `onnxq quantize MODEL --calib DATA` does.

    placement: where Q/DQ goes. method: how ranges are read off the histograms. weight_method: the
    same for weights. high_precision: the type of what is not quantized. weights_as: "int" for INT8
    weights with a DequantizeLinear, "float" for float weights with a Q/DQ pair; "auto" is int, and
    float where TensorRT would else multiply in float. io: whether the model's inputs and outputs
    keep their types. recover: "none", "all" or some of channels, equalize, smooth, scales, round,
    bias with commas between; "auto" is channels and bias where weights have 8 bits or fewer, with
    round where they have 4. max_memory: MB that a recovery may keep. samples, seed: calibrate on
    that many samples, evenly spread without a seed, drawn with it. workers: samples in flight.
    check_samples: calibration samples held out to compare FP32 with INT8. requantize: take out the
    Q/DQ of a quantized input first. allow_nonfinite: drop samples with NaN or Inf. external_data:
    weights in a file of their own.
    provider: where ONNX Runtime runs. ort_library: shared library of the model's custom ops.
    ort_extension: Python module that declares them with onnxruntime-extensions. cache: folder of
    statistics that are not counted again.
    """

    placement: PlanOptions = field(default_factory=PlanOptions)
    method: str = "mse"
    weight_method: Literal["max", "mse"] = "max"
    high_precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    weights_as: Literal["auto", "int", "float"] = "auto"
    io: Literal["keep", "half"] = "keep"
    recover: str = "auto"
    max_memory: int = 1024
    samples: int | None = None
    seed: int | None = None
    workers: int = field(default_factory=_cores)
    check_samples: int = 8
    requantize: bool = False
    allow_nonfinite: bool = False
    external_data: bool = False
    provider: str = "cpu"
    ort_library: str | None = None
    cache: str | None = None
    ort_extension: str | None = None

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise PlanError(f"--samples {self.samples}: at least one sample is needed")
        placement = replace(self.placement, high_precision=self.high_precision)
        object.__setattr__(self, "placement", placement)  # some rules look at the type around them
        parse(self.recover)
        if self.max_memory < 1:
            raise PlanError(f"--max-memory {self.max_memory}: give a positive number of MB")
        if self.workers < 1:
            raise PlanError(f"--workers {self.workers}: at least one worker is needed")
        if isinstance(parse_method(self.method), Auto) and not self.check_samples:
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
