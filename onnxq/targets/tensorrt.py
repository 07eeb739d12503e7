"""Placement for TensorRT.

`float_rules` say why a weighted op stays float. What is left is quantized by `specs.inputs_of`:
every input of Conv, Gemm and MatMul, activations per tensor, weights per channel or per block, in
the types of the scheme. Then the skip branch of residual Adds (`residual`) and branches of Concats
(`concat`), in the type in which the tensor is quantized already.
Evidence for each rule, engine by engine: docs/tensorrt.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnxq.model.flow import quantized_tensors, same_source, sources
from onnxq.model.graph import Graph, Node, node_by_name
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec
from onnxq.targets.attention import broken_attention
from onnxq.targets.bodies import in_bodies
from onnxq.targets.concat import (
    branches,
    pooled_concats,
    quantizable_concats,
    reached,
    reused_branches,
    shared,
)
from onnxq.targets.float_rules import float_reason
from onnxq.targets.fp4_rules import outside_fp4, settled
from onnxq.targets.options import PlanOptions, is_weighted, left_float, stored_weight
from onnxq.targets.residual import skip_edges
from onnxq.targets.specs import default_scheme, inputs_of, schemes_of


def plan(graph: Graph, options: PlanOptions, model: str) -> Plan:
    """The TensorRT plan of a prepared graph; `model` is the model file's hash.

    Raises PlanError for a pattern that matches nothing or an unknown option.
    """
    asked = left_float(graph, options)
    scheme, own = default_scheme(options), schemes_of(graph, options)
    edges: dict[Edge, QuantSpec] = {}
    rules: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for node in graph.nodes:
        if not is_weighted(node):
            continue
        chosen, other = settled(node, own.get(node.name, scheme))
        reason = asked.get(node.name) or float_reason(node, options, chosen)
        if reason:
            skipped[node.name] = reason
        else:
            edges |= inputs_of(node, options, chosen)
            stored = stored_weight(node) is not None
            rules[node.name] = other or ("stored-weight" if stored else f"weighted-{node.op}")
    activated = {e.node for e in edges if e.input == 0}
    broken = broken_attention(graph, activated) if "tensorrt" in scheme.targets else {}
    for name, float_part in broken.items():
        skipped[name] = f"attention: '{float_part}' stays float, and it fuses whole or not at all"
        del rules[name]
    edges = {e: s for e, s in edges.items() if e.node not in broken}
    if options.residual == "skip":
        _residual_adds(graph, asked, edges, rules, skipped)
    if options.concat != "requant":
        _pooled_concats(graph, asked, edges, rules)
    if options.concat == "auto":
        _reused_branches(graph, asked, edges, rules)
    if options.concat in ("share", "requant"):
        _concats(graph, asked, options, edges, rules, skipped)
    inner = in_bodies(
        graph, options, lambda name: outside_fp4(own.get(name, scheme)), asked, float_reason
    )
    edges |= inner[0]
    rules |= inner[1]
    skipped |= inner[2]
    source = sources(graph, edges)
    tying = {e: s for e, s in edges.items() if rules.get(e.node) != "concat-reuse"}
    tied = shared(graph, tying, source) if options.concat != "requant" else ()
    return Plan(model, "tensorrt", edges, rules, skipped, source, tied)


def _residual_adds(
    graph: Graph,
    asked: dict[str, str],
    edges: dict[Edge, QuantSpec],
    rules: dict[str, str],
    skipped: dict[str, str],
) -> None:
    """The skip branch of an Add in the tail of a quantized Conv reads Q/DQ too."""
    quantized = quantized_tensors(graph, edges)
    nodes = node_by_name(graph)
    convs = {name for name in rules if nodes[name].op == "Conv"}
    for name, edge in skip_edges(graph, quantized, convs).items():
        if name in asked or edge.node in asked:
            skipped[name] = asked.get(name) or asked[edge.node]
            continue
        edges[edge] = quantized[same_source(nodes[edge.node].inputs[edge.input]).name]
        rules[edge.node] = "residual-skip"


def _pooled_concats(
    graph: Graph, asked: dict[str, str], edges: dict[Edge, QuantSpec], rules: dict[str, str]
) -> None:
    """Q/DQ on a tensor that is concatenated with max pools of itself."""
    quantized = quantized_tensors(graph, edges)
    nodes = node_by_name(graph)
    for name, found in pooled_concats(graph, quantized).items():
        spec = _spec_behind(nodes[name], quantized)
        for edge in found if name not in asked else ():
            if edge.node not in asked:
                edges[edge] = spec
                rules[edge.node] = "pool-concat"


def _reused_branches(
    graph: Graph, asked: dict[str, str], edges: dict[Edge, QuantSpec], rules: dict[str, str]
) -> None:
    """Q/DQ on branches of Concats, each with a scale of its own, that need no float copy then."""
    quantized = quantized_tensors(graph, edges)
    found = reused_branches(graph, quantized, edges, {*asked, *rules})
    edges |= found
    rules |= {edge.node: "concat-reuse" for edge in found}


def _concats(
    graph: Graph,
    asked: dict[str, str],
    options: PlanOptions,
    edges: dict[Edge, QuantSpec],
    rules: dict[str, str],
    skipped: dict[str, str],
) -> None:
    """Q/DQ on the branches of Concats whose output is quantized."""
    quantized = quantized_tensors(graph, edges)
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    first = {  # tensor -> the place of the first node that reads it quantized
        tensor.name: place[node.name]
        for node in reversed(graph.nodes)
        for i, tensor in enumerate(node.inputs)
        if Edge(node.name, i) in edges
    }
    for node in quantizable_concats(graph, set(quantized), asked):
        if node.name in asked:
            skipped[node.name] = asked[node.name]
            continue
        spec = _spec_behind(node, quantized)
        for edge in branches(node):
            edges[edge] = spec
            name = node.inputs[edge.input].name
            if place[node.name] <= first.get(name, len(place)):
                quantized[name], first[name] = spec, place[node.name]
        rules[node.name] = f"concat-{options.concat}"


def _spec_behind(concat: Node, quantized: Mapping[str, QuantSpec]) -> QuantSpec:
    """How the output of a Concat is quantized, there or behind ops that only move data."""
    return quantized[reached(concat.outputs[0], quantized)[0]]
