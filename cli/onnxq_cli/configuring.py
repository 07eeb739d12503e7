"""From a command's options to the configuration they spell."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from onnxq.pipeline.config import Config
from onnxq.targets.options import PlanOptions


def config_of(options: dict[str, Any]) -> Config:
    """The Config of a command's options; options that are None keep their default."""
    given = {k: v for k, v in options.items() if v is not None}
    placement = {f.name: given[f.name] for f in fields(PlanOptions) if f.name in given}
    rest = {f.name: given[f.name] for f in fields(Config) if f.name in given}
    return Config(placement=PlanOptions(**placement), **rest)
