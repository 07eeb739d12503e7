"""What a plan needs to know of the data: which tensors are observed, and what has no range."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace

from onnxq.calib.ranges import Ranges
from onnxq.model.graph import Graph, Node, constant_of, within
from onnxq.numerics import has_scale
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec


def observed(graph: Graph, plan: Plan) -> list[str]:
    """Names of the tensors whose ranges the plan needs, in graph order."""
    names = dict.fromkeys(name for _, name, _ in _activations(graph, plan))
    names |= dict.fromkeys(name for group in plan.tied for name in group)
    return list(names)


def activation_specs(graph: Graph, plan: Plan) -> dict[str, QuantSpec]:
    """Observed tensor -> how it is quantized; by the narrowest type where readers differ."""
    found: dict[str, QuantSpec] = {}
    for node in within(graph.nodes):
        for i, tensor in enumerate(node.inputs):
            spec = plan.edges.get(Edge(node.name, i))
            if spec is None or constant_of(tensor) is not None:
                continue
            name = plan.source.get(tensor.name, tensor.name)
            if name not in found or spec.row.bits < found[name].row.bits:
                found[name] = spec
    return found


def settle(
    graph: Graph, plan: Plan, ranges: Ranges, unseen: Container[str] = ()
) -> tuple[Plan, list[str]]:
    """The plan without the nodes that read a tensor with range zero, and a note for each.

    A tensor that was zero in every sample, or too small for any scale, has no scale: its consumers
    stay float. So do those of the `unseen` tensors, which had no values in any sample.
    """
    dead: dict[str, str] = {}
    for node, name, spec in _activations(graph, plan):
        amax = ranges[name].amax
        if not has_scale(amax, spec).all():
            why = (
                f"reaches {amax:.3g}, too little for a scale" if amax else "is zero in every sample"
            )
            if not amax and ranges[name].sat_ratio:  # a percentile of a sparse tensor
                why = f"has a range of zero by {ranges[name].method}, though not all of it is zero"
                why += "; --method mse or max gives one"
            why = "has no values in any sample" if name in unseen else why
            dead[node.name] = f"zero-range: '{name}' {why}"
    alive = plan.without(*dead)
    settled = replace(alive, skipped={**alive.skipped, **dead})
    return settled, [f"'{name}' stays float: {reason}" for name, reason in dead.items()]


def taken(graph: Graph, plan: Plan, ranges: Ranges) -> tuple[Plan, Ranges, list[str]]:
    """A plan by ranges that were read elsewhere, those ranges, and a note for each node that they
    leave float: one that reads a tensor without a range. Tensors that share a scale share the
    largest of their ranges."""
    missing: dict[str, str] = {}
    for node, name, _ in _activations(graph, plan):
        if name not in ranges.tensors:
            missing.setdefault(node.name, f"no-range: '{name}' has no range in what was given")
    alive = plan.without(*missing)
    found = dict(ranges.tensors)
    for group in alive.tied:
        named = [found[name] for name in group if name in found]
        if named:
            widest = max(named, key=lambda r: r.amax)
            found |= dict.fromkeys(group, widest)
    notes = [f"'{name}' stays float: {reason}" for name, reason in missing.items()]
    kept = replace(alive, skipped={**alive.skipped, **missing})
    return kept, replace(ranges, tensors=found), notes


def _activations(graph: Graph, plan: Plan) -> Iterator[tuple[Node, str, QuantSpec]]:
    """Every quantized activation input: the node that reads it, the tensor observed for it, and how
    it is quantized."""
    for node in within(graph.nodes):
        for i, tensor in enumerate(node.inputs):
            spec = plan.edges.get(Edge(node.name, i))
            if spec is not None and constant_of(tensor) is None:
                yield node, plan.source.get(tensor.name, tensor.name), spec
