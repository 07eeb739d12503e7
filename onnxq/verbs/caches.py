"""Calibration caches of TensorRT up to version 10: to ranges, and from data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.pipeline.config import Config
from onnxq.pipeline.reading import CalibrationData
from onnxq.pipeline.source import Source, open_model, prepare
from onnxq.pipeline.steps import calibrate, data, plan, read, runtime_of
from onnxq.progress import Progress, silent

if TYPE_CHECKING:
    from onnxq.calib.ranges import Ranges
    from onnxq.calib.trt_cache import Mapped
    from onnxq.plan import Plan


@dataclass(frozen=True)
class FromCache:
    """Ranges for a plan out of a cache. counted: tensors that the cache does not have and data was
    run for."""

    source: Source
    plan: Plan
    found: Mapped
    ranges: Ranges
    counted: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """Tensors of the plan that have no range."""
        return [name for name in self.found.missing if name not in self.counted]


def ranges_from_cache(
    model: str | Path,
    cache: str | Path,
    calib: CalibrationData = (),
    config: Config | None = None,
    *,
    plan_from: Plan | None = None,
    progress: Progress = silent,
) -> FromCache:
    """The ranges that a plan of a model file needs, out of a TensorRT calibration cache.

    calib: data for the tensors that the cache does not have; without it they have no range. Raises
    DataError for a file that is no cache, or one that has no tensor of the model.
    """
    from onnxq.calib.observed import observed
    from onnxq.calib.ranges import Ranges
    from onnxq.calib.trt_cache import load_cache, mapped
    from onnxq.errors import DataError

    config, read_cache = config or Config(), load_cache(cache)
    source = prepare(model, config, plan_from)
    chosen = plan_from or plan(source, config)
    chosen.check_model(source.sha256)
    wanted = observed(source.graph, chosen)
    found = mapped(read_cache, open_model(model).graph, wanted, source.sha256)
    if wanted and not found.ranges.tensors:
        first = ", ".join(f"'{name}'" for name in list(read_cache.amax)[:2])
        raise DataError(f"'{cache}' has none of the {len(wanted)} tensors that '{model}' needs, "
                        f"but {first}, ...: it is of another model")  # fmt: skip
    if not found.missing or (isinstance(calib, Sequence) and not len(calib)):
        return FromCache(source, chosen, found, found.ranges, ())
    stats = calibrate(source, chosen, data(source, calib, config), config, progress)
    counted = read(source, chosen, stats, config.method).tensors
    tensors = {**found.ranges.tensors, **{name: counted[name] for name in found.missing}}
    return FromCache(source, chosen, found, Ranges(source.sha256, tensors), found.missing)


def write_cache(
    model: str | Path,
    calib: CalibrationData,
    out: str | Path,
    config: Config | None = None,
    progress: Progress = silent,
) -> int:
    """Write a calibration cache for TensorRT up to version 10: a scale for every float tensor of
    the model, as it is in its file; how many.

    The ranges are read by `config.method`, for INT8. Raises DataError for data that does not fit.
    """
    from onnxq.calib.collect import collect
    from onnxq.calib.methods import Auto, parse_method
    from onnxq.calib.ranges import read_ranges
    from onnxq.calib.trt_cache import save_cache
    from onnxq.errors import PlanError
    from onnxq.spec import QuantSpec

    config, source = config or Config(), open_model(model)
    method = parse_method(config.method)
    if isinstance(method, Auto):
        raise PlanError("method 'auto' is judged at the outputs of a model with Q/DQ; name another")
    dataset = data(source, calib, config)
    stats = collect(
        source.graph, _floats(source), dataset, model=source.sha256, runtime=runtime_of(config),
        workers=config.workers, progress=partial(progress, "calibrate"),
    )  # fmt: skip
    seen = {name: h for name, h in stats.histograms.items() if h.count}
    stats = replace(stats, histograms=seen)
    save_cache(ranges := read_ranges(stats, method, QuantSpec()), out)
    return len(ranges.tensors)


def _floats(source: Source) -> list[str]:
    """The inputs and the activations that are float32."""
    graph = apply(source.graph, infer_shapes)
    tensors = [*graph.inputs, *(t for node in graph.nodes for t in node.outputs if t.name)]
    return list(dict.fromkeys(t.name for t in tensors if t.dtype == np.float32))
