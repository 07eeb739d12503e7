"""Weighted ops in the bodies of If, Loop and Scan.

One is quantized as it would be outside where the range of what it reads can be observed: where that
is a tensor of the main graph, which calibration sees whether the branch is taken or not. What is
computed in a body is not observed, and such an op stays float, unless its weights alone are
quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnxq.model.graph import Graph, Node, constant_of, scopes
from onnxq.schemes import Scheme
from onnxq.spec import Edge, QuantSpec
from onnxq.targets.options import PlanOptions, is_weighted
from onnxq.targets.specs import inputs_of

IN_BRANCH = (
    "in-branch: what it reads is computed inside an If, Loop or Scan, where no range is observed"
)
FloatReason = Callable[[Node, PlanOptions, Scheme], str | None]


def in_bodies(
    graph: Graph,
    options: PlanOptions,
    scheme_of: Callable[[str], Scheme],
    asked: Mapping[str, str],
    float_reason: FloatReason,
) -> tuple[dict[Edge, QuantSpec], dict[str, str], dict[str, str]]:
    """The edges of the weighted ops in bodies, the rules that decided, and why others stay float.

    asked: the nodes that the user leaves float. float_reason: the target's rules.
    """
    main = {id(t) for t in graph.tensors().values()}
    edges: dict[Edge, QuantSpec] = {}
    rules: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for body in scopes(graph)[1:]:
        for node in filter(is_weighted, body.nodes):
            scheme = scheme_of(node.name)
            reason = asked.get(node.name) or float_reason(node, options, scheme)
            found = {} if reason else inputs_of(node, options, scheme)
            reason = reason or _unseen(node, found, main)
            if reason:
                skipped[node.name] = reason
            else:
                edges |= found
                rules[node.name] = f"weighted-{node.op}"
    return edges, rules, skipped


def _unseen(node: Node, edges: Mapping[Edge, QuantSpec], main: set[int]) -> str | None:
    """Why an activation that `edges` would quantize has no range; None where all have one."""
    for edge in edges:
        tensor = node.inputs[edge.input]
        if constant_of(tensor) is None and id(tensor) not in main:
            return IN_BRANCH
    return None
