"""The options of `quantize` as keywords: the fields of `Config` and `PlanOptions`, for a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, Literal, TypedDict

from onnxq.errors import PlanError
from onnxq.pipeline.config import Config
from onnxq.targets.options import PlanOptions

Several = str | Sequence[str]  # one pattern, or several


class Keywords(TypedDict, total=False):
    """Options by the names that they have on the command line, `_` for `-`."""

    method: str
    weight_method: Literal["max", "mse"]
    high_precision: Literal["fp32", "fp16", "bf16"]
    weights_as: Literal["auto", "int", "float"]
    io: Literal["keep", "half"]
    recover: str
    max_memory: int
    samples: int | None
    seed: int | None
    preprocess: str | None
    workers: int
    check_samples: int | None
    fix: Several
    feedback: Several
    requantize: bool
    allow_nonfinite: bool
    external_data: bool
    provider: str
    ort_library: str | None
    cache: str | None
    ort_extension: str | None
    skip: Several
    only: Several
    skip_op: Several
    skip_between: Several
    keep_first: int
    keep_last: int
    deconv: Literal["float", "per-tensor", "per-channel"]
    concat: Literal["auto", "share", "requant", "float"]
    residual: Literal["skip", "float"]
    target: str
    scheme: str
    scheme_for: Several
    weights: Literal["auto", "per-channel", "per-tensor", "per-block"]
    block_size: int | None
    min_channels: int | None
    attribute_op: Several


def composed(config: Config | None, options: Keywords) -> Config:
    """`config`, or the defaults, with these options in the place of its own.

    Raises PlanError for an option that there is not, and for a value that is none of its choices.
    """
    known = Keywords.__annotations__
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            raise PlanError(f"there is no option '{name}'{meant}")
    placed = {f.name for f in fields(PlanOptions)} - {"high_precision"}
    base = config or Config()
    placement: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in options.items():
        (placement if name in placed else rest)[name] = value
    return replace(base, placement=replace(base.placement, **placement), **rest)
