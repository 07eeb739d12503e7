"""How large the channels of activations are: largest values and powers, in one pass over samples.

Each tensor is reduced where it is computed (ReduceMax of |x|, ReduceMean of x^2), so that no
activation leaves the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxq.arrays import Array, Samples
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph, Tensor
from onnxq.run import over, segments
from onnxq.run import runtime as ort

LARGEST, POWER = "onnxq_largest", "onnxq_power"


@dataclass(frozen=True)
class Channels:
    """Where the channels of a tensor lie: on axis 1 of `rank` axes, or, with rank 0, on the last of
    any number of axes."""

    channels: int
    rank: int = 0


@dataclass(frozen=True)
class Sizes:
    """Per channel the largest |x| and the mean of x^2 over all samples; float64, (channels,)."""

    amax: Array
    power: Array


def channel_sizes(
    graph: Graph, layouts: Mapping[str, Channels], data: Samples, runtime: ort.Runtime, workers: int
) -> dict[str, Sizes]:
    """Sizes of the channels of tensors, by their names; the same for any order of the samples, up
    to rounding of the powers."""
    if not layouts:
        return {}
    runs = over.each(sizes_model(graph, layouts), data, lambda _, v: v, runtime, workers)
    found = {}
    for i, name in enumerate(layouts):
        largest, powers = (
            np.stack([values[f"{kind}_{i}"] for values in runs]).astype(np.float64)
            for kind in (LARGEST, POWER)
        )
        seen = (largest > -np.inf).all(axis=1)  # ReduceMax of an empty tensor is -inf
        found[name] = Sizes(
            largest.max(axis=0, initial=0.0), powers[seen].sum(axis=0) / max(1, seen.sum())
        )
    return found


def sizes_model(graph: Graph, layouts: Mapping[str, Channels]) -> onnx.ModelProto:
    """A model that writes, for tensor i of `layouts`, `onnxq_largest_i` and `onnxq_power_i`."""
    copy = segments.restrict(graph, list(layouts))
    tensors = copy.tensors()
    copy.outputs = []
    for i, (name, layout) in enumerate(layouts.items()):
        _reduce(copy, tensors[name], layout, i)
    return graphs.to_proto(copy)


def _reduce(graph: Graph, x: Tensor, layout: Channels, i: int) -> None:
    axes = [a for a in range(layout.rank) if a != 1]
    if not layout.rank:
        shape = gs.Constant(f"onnxq_shape_{i}", np.array([-1, layout.channels], np.int64))
        x, axes = _add(graph, "Reshape", [x, shape], f"onnxq_rows_{i}"), [0]
    if x.dtype != np.float32:
        x = _add(graph, "Cast", [x], f"onnxq_float_{i}", {"to": int(onnx.TensorProto.FLOAT)})
    size = _add(graph, "Abs", [x], f"onnxq_size_{i}")
    square = _add(graph, "Mul", [x, x], f"onnxq_square_{i}")
    for op, tensor, name in (("ReduceMax", size, LARGEST), ("ReduceMean", square, POWER)):
        inputs, attrs = [tensor], dict[str, Any](keepdims=0)
        if graph.opset >= 18:
            inputs.append(gs.Constant(f"{name}_axes_{i}", np.array(axes, np.int64)))
        else:
            attrs["axes"] = axes
        out = _add(graph, op, inputs, f"{name}_{i}", attrs)
        out.shape = [layout.channels]
        graph.outputs.append(out)


def _add(
    graph: Graph, op: str, inputs: list[Tensor], name: str, attrs: Mapping[str, Any] | None = None
) -> Tensor:
    out = gs.Variable(name, np.float32)
    graph.nodes.append(gs.Node(op, f"{name}_node", dict(attrs or {}), inputs, [out]))
    return out
