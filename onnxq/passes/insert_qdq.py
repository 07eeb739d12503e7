"""Insert QuantizeLinear/DequantizeLinear where a plan says, with the ranges that were read.

    activation x  ->  Q(x, s, 0) -> DQ -> every planned consumer        (one pair a tensor)
    weight w      ->  INT8 initializer -> DQ(axis)                      (or float w -> Q -> DQ)

Biases stay float. `axis` is always written: ONNX's default is 1, TensorRT's parser's is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnxq.errors import PlanError
from onnxq.graph import Graph, Node, Tensor, constant_of, node_by_name
from onnxq.numerics import amax_of, quantize, scale_of
from onnxq.plan import Plan
from onnxq.spec import QuantSpec

Array = npt.NDArray[Any]
DEAD_CHANNEL = 2.0**-16  # least scale of a channel, as a share of the weight's largest
STORAGE = {"int8": np.int8, "int16": np.int16}


@dataclass(frozen=True)
class InsertOptions:
    """How Q/DQ is written.

    weights_as: "int" stores INT8 weights with a DequantizeLinear; "float" keeps float weights with
    a Q/DQ pair. scale_dtype: the type scales are rounded to. weight_range: (weight, spec) -> amax.
    """

    weights_as: Literal["int", "float"] = "int"
    scale_dtype: str = "float32"
    weight_range: Callable[[Array, QuantSpec], Array] = amax_of


def insert_qdq(
    graph: Graph, plan: Plan, amax: Mapping[str, float], options: InsertOptions | None = None
) -> int:
    """Insert the plan's Q/DQ in place; returns how many edges were quantized.

    `amax` maps a source tensor's name to its range. Raises PlanError for an edge that the graph
    does not have, or a tensor without a range.
    """
    options = options or InsertOptions()
    nodes = node_by_name(graph)
    made: dict[tuple[str, QuantSpec], Tensor] = {}
    for edge, spec in plan.edges.items():
        node = nodes.get(edge.node)
        if node is None or edge.input >= len(node.inputs):
            raise PlanError(
                f"the plan quantizes input {edge.input} of '{edge.node}', which this "
                "graph does not have; run 'onnxq plan' on this model"
            )
        tensor = node.inputs[edge.input]
        key = (tensor.name, spec)
        if key not in made:
            made[key] = _quantized(graph, plan, amax, tensor, spec, options)
        node.inputs[edge.input] = made[key]
    graph.cleanup().toposort()
    return len(plan.edges)


def _quantized(
    graph: Graph,
    plan: Plan,
    amax: Mapping[str, float],
    tensor: Tensor,
    spec: QuantSpec,
    options: InsertOptions,
) -> Tensor:
    values = constant_of(tensor)
    if values is not None:
        scale = weight_scale(values, spec, options)
        if options.weights_as == "int":
            codes = quantize(values, scale, spec).astype(STORAGE[spec.dtype])
            stored = gs.Constant(f"{tensor.name}_quantized", codes)
            return _dequantize(graph, tensor, stored, scale, spec)
        return _pair(graph, tensor, scale, spec)
    source = plan.source.get(tensor.name, tensor.name)
    if source not in amax:
        raise PlanError(
            f"no range for tensor '{source}'; run 'onnxq calibrate' on this model and plan"
        )
    return _pair(graph, tensor, scale_of(amax[source], spec, options.scale_dtype), spec)


def weight_scale(values: Array, spec: QuantSpec, options: InsertOptions) -> Array:
    """The scale of a weight: per tensor, or one per channel.

    A channel that is all but zero gets at least `DEAD_CHANNEL` of the largest scale. Its weights
    round to zero either way, but runtimes hold the bias in steps of (input scale x weight scale)
    as INT32, and a smaller step would overflow it.
    """
    amax = np.asarray(options.weight_range(values, spec), np.float64)
    floor = DEAD_CHANNEL * amax.max(initial=0.0)
    return scale_of(np.maximum(amax, floor), spec, options.scale_dtype)


def _pair(graph: Graph, tensor: Tensor, scale: Array, spec: QuantSpec) -> Tensor:
    stored = gs.Variable(f"{tensor.name}_quantized", STORAGE[spec.dtype], tensor.shape)
    node = gs.Node("QuantizeLinear", f"{tensor.name}_QuantizeLinear", _axis(spec))
    node.inputs = [tensor, *_parameters(tensor, scale, spec)]
    node.outputs = [stored]
    graph.nodes.append(node)
    return _dequantize(graph, tensor, stored, scale, spec, node.inputs[1:])


def _dequantize(
    graph: Graph,
    tensor: Tensor,
    stored: Tensor,
    scale: Array,
    spec: QuantSpec,
    parameters: list[Tensor] | None = None,
) -> Tensor:
    out = gs.Variable(f"{tensor.name}_dequantized", np.float32, tensor.shape)
    node: Node = gs.Node("DequantizeLinear", f"{tensor.name}_DequantizeLinear", _axis(spec))
    node.inputs = [stored, *(parameters or _parameters(tensor, scale, spec))]
    node.outputs = [out]
    graph.nodes.append(node)
    return out


def _axis(spec: QuantSpec) -> dict[str, int]:
    return {} if spec.axis is None else {"axis": spec.axis}


def _parameters(tensor: Tensor, scale: Array, spec: QuantSpec) -> list[Tensor]:
    zero_point = np.zeros(scale.shape, STORAGE[spec.dtype])
    return [
        gs.Constant(f"{tensor.name}_scale", scale),
        gs.Constant(f"{tensor.name}_zero_point", zero_point),
    ]
