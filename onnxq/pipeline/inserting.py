"""The step that writes Q/DQ, and what follows it once biases are settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnxq.calib.ranges import Ranges
from onnxq.calib.weights import weight_mse
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.numerics import amax_of
from onnxq.passes.apply import tidy
from onnxq.passes.insert_qdq import Codes, InsertOptions, Weight, insert_qdq
from onnxq.passes.part_biases import part_biases
from onnxq.passes.pin_weights import pin_weights
from onnxq.passes.quantize_biases import quantize_biases
from onnxq.passes.write_attributes import write_attributes
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source
from onnxq.plan import Plan
from onnxq.spec import Edge
from onnxq.targets.attention import merged_projections
from onnxq.targets.options import weight_input


@graphs.uncollected()
def insert(
    source: Source,
    plan: Plan,
    ranges: Ranges,
    config: Config | None = None,
    codes: Mapping[Weight, Codes] | None = None,
) -> Graph:
    """A copy of the graph with the plan's Q/DQ; `codes` are of weights that `refine` rounded.

    Attribute ops have Q/DQ too, which ONNX Runtime can run; `as_attributes` takes it out.
    """
    config = config or Config()
    graph = source.graph.copy()
    options = insert_options(config, codes)
    if config.weights_as == "auto" and plan.target == "tensorrt":
        options = replace(options, paired=_split_in_the_engine(graph, plan))
    insert_qdq(graph, plan, ranges.limits, options)
    tidy(graph)
    return graph


def as_attributes(
    source: Source, graph: Graph, plan: Plan, ranges: Ranges, config: Config
) -> Graph:
    """`graph` with attributes in place of Q/DQ at the plan's attribute ops, a copy; `graph` itself
    where the plan has none."""
    if not plan.attribute_ops:
        return graph
    out = graph.copy()
    write_attributes(out, source.graph, plan, ranges.amax, insert_options(config))
    return out


def insert_options(config: Config, codes: Mapping[Weight, Codes] | None = None) -> InsertOptions:
    """How this configuration writes Q/DQ; `codes` are of weights that are rounded already."""
    weight_range = weight_mse if config.weight_method == "mse" else amax_of
    return InsertOptions(config.stored_as, config.scale_dtype, weight_range, codes or {})


def _split_in_the_engine(graph: Graph, plan: Plan) -> list[str]:
    """Weights that TensorRT splits, and would dequantize for that, of products on codes."""
    return [
        node.inputs[weight].name
        for node in merged_projections(graph)
        if (weight := weight_input(node)) is not None
        and {Edge(node.name, 0), Edge(node.name, 1)} <= plan.edges.keys()
    ]


def write_biases(graph: Graph, config: Config) -> None:
    """Write the biases of a quantized graph, in place, so that ONNX Runtime computes with them as
    they are: after all that corrects them or changes their type."""
    if config.high_precision == "fp32":
        quantize_biases(graph)
    part_biases(graph)
    if config.placement.target == "onnxruntime":
        pin_weights(graph)
