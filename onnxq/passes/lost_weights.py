"""Weights that quantization turns into zeros: a fixed scale that is too coarse for them, say."""

from __future__ import annotations

from onnxq.arrays import Array
from onnxq.model.graph import Graph, Tensor, constant_of, node_by_name
from onnxq.numerics import amax_of, quantize
from onnxq.passes.insert_qdq import InsertOptions, weight_scale
from onnxq.plan import Plan
from onnxq.spec import QuantSpec


def lost_weights(graph: Graph, plan: Plan, options: InsertOptions) -> dict[str, str]:
    """Node -> its weight that is not zero while every code of it is; `graph` is without Q/DQ."""
    nodes, found = node_by_name(graph), {}
    for edge, spec in plan.edges.items():
        tensor = nodes[edge.node].inputs[edge.input]
        values = constant_of(tensor)
        if values is not None and values.any() and not _any_code(tensor, values, spec, options):
            found[edge.node] = tensor.name
    return found


def _any_code(tensor: Tensor, values: Array, spec: QuantSpec, options: InsertOptions) -> bool:
    given = options.codes.get((tensor.name, spec))
    if given is not None:
        return bool(given.codes.any())
    largest, scale = amax_of(values, spec), weight_scale(values, spec, options)
    return bool(quantize(largest.ravel(), scale.ravel(), QuantSpec(spec.dtype, "channel", 0)).any())
