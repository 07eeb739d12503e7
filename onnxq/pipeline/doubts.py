"""Doubts about calibration data that SQNR cannot have: both models read the same data, so they
agree on wrong data too. A line each, for the summary and the manifest.

    what it looks like     pixels never scaled, scaled twice, channels last (see `calib.looks`)
    what the model says    the spread behind its first BatchNormalization against the trained one
    what the model gives   a Softmax or Sigmoid of the float model that is never sure
    what it repeats        frames of one scene
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from onnxq.arrays import Array, Sample
from onnxq.calib.data import Dataset
from onnxq.calib.looks import CURES, alike, look
from onnxq.errors import ModelError
from onnxq.judge.classes import classes_axis
from onnxq.model import graph as graphs
from onnxq.model.flow import same_source
from onnxq.model.graph import Graph, producer
from onnxq.pipeline.first_layer import FirstLayer
from onnxq.pipeline.source import Source
from onnxq.run import over
from onnxq.run.runtime import Runtime
from onnxq.run.segments import restrict

FEW = 4  # samples that are looked at
VALUES = 1 << 16  # of what a layer writes for a sample
SPREAD = 16.0  # times the variance that BatchNormalization was trained on, or one part of it
SHIFT = 4.0  # deviations from the mean that it was trained on
LARGE = 50.0  # deviation behind a first layer of a model that takes pixels: 2 to 6 were seen
ALIVE = 0.05  # of the largest deviation of a channel: those below are dead
SURE, UNSURE = 0.3, 0.1  # the largest Softmax, the largest Sigmoid of a model that sees nothing
SAMPLES = 4  # that say whether a model is ever sure
PAIRS = 512  # samples that are held against the next
SCENES = 0.25  # share of samples that may be like the one before


def of_data(source: Source, dataset: Dataset, runtime: Runtime) -> list[str]:
    """Doubts about what a model is given, by a few samples."""
    count = min(FEW, len(dataset))
    samples = [dataset.sample(i * len(dataset) // count) for i in range(count)]
    layers = {layer.input: layer for layer in source.original.first}
    behind = _behind(source.graph, list(layers.values()), samples, runtime)
    doubts = [
        f"{said}; {CURES[said.kind]}"
        for said in look(samples)
        if said.kind != "pixels" or _takes_no_pixels(layers.get(said.input), behind)
    ]
    if not doubts:
        doubts += [line for layer in layers.values() for line in _untrained(layer, behind)]
    return doubts + list(_repeated(dataset))


def of_outputs(graph: Graph, outputs: Sequence[Mapping[str, Array]]) -> Iterator[str]:
    """Doubts by what the float model gives for samples: outputs that are never sure."""
    for tensor in graph.outputs:
        writer = producer(same_source(tensor))
        kind = "Softmax" if classes_axis(tensor) is not None else writer.op if writer else ""
        values = [x[tensor.name] for x in outputs if tensor.name in x]
        if kind not in ("Softmax", "Sigmoid") or len(values) < SAMPLES:
            continue
        surest = max((float(x.max()) for x in values if x.size), default=1.0)
        few = kind == "Softmax" and min(x.shape[-1] for x in values) < 1 / SURE + 1
        if surest < (SURE if kind == "Softmax" else UNSURE) and not few:
            yield (
                f"the float model is never sure: no value of output '{tensor.name}' is above "
                f"{surest:.2g}; are the samples what it was trained on, prepared as for inference?"
            )


def _behind(
    graph: Graph, layers: Sequence[FirstLayer], samples: Sequence[Sample], runtime: Runtime
) -> dict[str, Array]:
    """What the first layers write for the samples, (values, channels) a tensor; none of a graph
    whose beginning does not run by itself."""
    tensors = graph.tensors()
    names = [x.tensor for x in layers if x.tensor in tensors and producer(tensors[x.tensor])]
    if not names:
        return {}
    try:
        run = over.loaded(graphs.to_proto(restrict(graph, names)), runtime)
        written = [run(sample) for sample in samples]
    except ModelError:
        return {}
    return {
        x.tensor: np.concatenate([_by_channel(values[x.tensor], x.deviation) for values in written])
        for x in layers
        if x.tensor in names
    }


def _by_channel(x: Array, deviation: Array | None) -> Array:
    """A few of the values, (values, channels); one channel where the layer has no deviations."""
    count = 0 if deviation is None else len(deviation)
    axis = next((a for a in (1, x.ndim - 1) if a < x.ndim and x.shape[a] == count), None)
    rows = x.reshape(-1, 1) if axis is None else np.moveaxis(x, axis, -1).reshape(-1, count)
    return rows[:: max(1, rows.size // VALUES)].astype(np.float64)


def _takes_no_pixels(layer: FirstLayer | None, behind: Mapping[str, Array]) -> bool:
    """Whether a model's first layer shows that whole numbers up to 255 are too large for it."""
    if layer is None:
        return True
    if layer.scaled and layer.deviation is None:
        return False
    values = behind.get(layer.tensor)
    if values is None:
        return not layer.scaled
    if layer.deviation is not None:
        return _spread(values, layer.deviation) > SPREAD
    return float(values.std()) > LARGE


def _untrained(layer: FirstLayer, behind: Mapping[str, Array]) -> Iterator[str]:
    values = behind.get(layer.tensor)
    if values is None or layer.deviation is None or layer.mean is None:
        return
    if values.shape[1] != len(layer.deviation) or len(values) < 2:
        return
    spread, alive = _spread(values, layer.deviation), _alive(layer.deviation)
    shift = np.abs(values.mean(0) - layer.mean)[alive] / layer.deviation[alive]
    if not 1 / SPREAD <= spread <= SPREAD:
        yield (
            f"behind the first BatchNormalization, values of input '{layer.input}' spread "
            f"{np.sqrt(spread):.2g} times as far as in training; scale them as for inference"
        )
    elif float(shift.mean()) > SHIFT:
        yield (
            f"behind the first BatchNormalization, values of input '{layer.input}' are "
            f"{shift.mean():.2g} deviations from where they were in training; subtract the mean "
            "as for inference"
        )


def _spread(values: Array, deviation: Array) -> float:
    """The variance of the channels that are not dead over the trained one: the geometric mean."""
    if values.shape[1] != len(deviation):
        return 1.0
    alive = _alive(deviation)
    ratios = values.var(0)[alive] / np.square(deviation[alive])
    return float(np.exp(np.log(np.maximum(ratios, 1e-12)).mean())) if ratios.size else 1.0


def _alive(deviation: Array) -> Array:
    """Which channels are not dead."""
    return np.asarray(deviation > ALIVE * deviation.max(initial=0.0))


def _repeated(dataset: Dataset) -> Iterator[str]:
    sketches = [facts.sketch for facts in dataset.select(range(min(PAIRS, len(dataset)))).facts()]
    repeats = sum(alike(a, b) for a, b in pairwise(sketches))
    if repeats > SCENES * len(sketches):
        yield (
            f"{repeats} of {len(sketches)} samples are nearly the same as the one before; "
            "samples of more scenes say more"
        )
