"""The files that TensorRT writes of an engine, read together."""

from __future__ import annotations

from pathlib import Path

from onnxq.errors import OnnxqError
from onnxq.layers.info import load_layers
from onnxq.layers.model import check_same, model_of
from onnxq.layers.profile import load_profile
from onnxq.layers.reading import EngineReading, read
from onnxq.model import graph as graphs


def read_given(
    layers: str | Path, profile: str | Path | None = None, model: str | Path | None = None
) -> EngineReading:
    """What the layers, their times and the model say together. Raises OnnxqError, in one line, for
    files that are not of that kind or do not belong together."""
    info = load_layers(layers)
    times = None if profile is None else load_profile(profile)
    if model is None:
        return read(info, times)
    known = model_of(graphs.load(model))
    check_same(info, known, model)
    return read(info, times, known)


def engine_of(
    model: str | Path, layers: str | Path | None, profile: str | Path | None
) -> EngineReading | None:
    """What the engine of a model ran, where its layers are given; None where not.

    Raises OnnxqError as `read_given`, and for a profile without layers.
    """
    if layers is not None:
        return read_given(layers, profile, model)
    if profile is not None:
        raise OnnxqError(f"'{profile}' has times of layers: give the layers too, by --layers FILE")
    return None
