"""What TensorRT says of engines that it built and timed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxq.layers.against import EngineComparison
    from onnxq.layers.reading import EngineReading


def read_layers(
    layers: str | Path, profile: str | Path | None = None, model: str | Path | None = None
) -> EngineReading:
    """What an engine runs, node by node, and for how long.

    layers: file of `trtexec --exportLayerInfo --profilingVerbosity=detailed`, or of TensorRT's
    engine inspector. profile: file of `trtexec --exportProfile`. model: the ONNX model that the
    engine was built from. Raises OnnxqError, in one line, for files that are not of that kind or do
    not belong together.
    """
    from onnxq.layers.info import load_layers
    from onnxq.layers.model import check_same, model_of
    from onnxq.layers.profile import load_profile
    from onnxq.layers.reading import read
    from onnxq.model import graph as graphs

    info = load_layers(layers)
    times = None if profile is None else load_profile(profile)
    if model is None:
        return read(info, times)
    known = model_of(graphs.load(model))
    check_same(info, known, model)
    return read(info, times, known)


def compare_layers(a: EngineReading, b: EngineReading) -> EngineComparison:
    """Two engines of one network: what takes longer in the second, and why. Raises OnnxqError where
    one has no times, or the two have no product in common."""
    from onnxq.layers.against import compare

    return compare(a, b)
