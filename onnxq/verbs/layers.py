"""What TensorRT says of engines that it built and timed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxq.errors import OnnxqError

if TYPE_CHECKING:
    from onnxq.cost.learnt import Paying
    from onnxq.layers.against import EngineComparison
    from onnxq.layers.reading import EngineReading
    from onnxq.plan import Plan


def read_layers(
    layers: str | Path, profile: str | Path | None = None, model: str | Path | None = None
) -> EngineReading:
    """What an engine runs, node by node, and for how long.

    layers: file of `trtexec --exportLayerInfo --profilingVerbosity=detailed`, or of TensorRT's
    engine inspector. profile: file of `trtexec --exportProfile`. model: the ONNX model that the
    engine was built from. Raises OnnxqError, in one line, for files that are not of that kind or do
    not belong together.
    """
    from onnxq.layers.given import read_given

    return read_given(layers, profile, model)


def compare_layers(a: EngineReading, b: EngineReading) -> EngineComparison:
    """Two engines of one network: what takes longer in the second, and why. Raises OnnxqError where
    one has no times, or the two have no product in common."""
    from onnxq.layers.against import compare

    return compare(a, b)


def does_it_pay(
    model: str | Path,
    layers: Sequence[str | Path],
    profiles: Sequence[str | Path],
    plan_from: Plan | None = None,
    rates: str | None = None,
) -> Paying:
    """Whether quantizing a float model pays, by what TensorRT says of one engine or of two.

    layers, profiles: of an engine, by which the cost of the other is predicted, or of one in float
    and then one quantized by `plan_from`. plan_from: what `onnxq plan` makes by default. rates: see
    `onnxq.cost.fit.ratios_of`. Raises OnnxqError for files that do not belong together, or of
    another model.
    """
    from onnxq.cost.fit import ratios_of
    from onnxq.cost.learnt import Paying
    from onnxq.cost.paying import measured, predicted
    from onnxq.cost.shapes import usual_shapes
    from onnxq.cost.timing import read_profile, timing_of
    from onnxq.pipeline.source import prepare
    from onnxq.pipeline.steps import plan
    from onnxq.search.choices import given

    if len(profiles) != len(layers):
        raise OnnxqError("times decide whether it pays: give a --profile for each LAYERS")
    source = prepare(model, None, plan_from)
    graph, chosen = source.graph, plan_from or plan(source)
    chosen.check_model(source.sha256)
    pairs = zip(profiles, layers, strict=True)
    readings = [read_profile(graph, times, path) for times, path in pairs]
    timing = timing_of(graph, readings[-1], usual_shapes(graph), "fp16", ratios_of(rates))
    palette = given(graph, chosen, reason="does not pay on the device")
    if len(readings) == 1:
        pays = predicted(graph, chosen, timing)
    else:
        pays = measured(graph, chosen, readings[0], readings[1], timing)
    floats = set(pays.floats)
    kept = palette.mix({node: "" for node in chosen.nodes if node not in floats})
    return Paying(timing.learnt(pays), kept if pays.worth and kept.edges else None)
