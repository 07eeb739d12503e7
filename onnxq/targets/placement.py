"""The targets: a table of placement rules each."""

from __future__ import annotations

from collections.abc import Callable

from onnxq.errors import PlanError
from onnxq.graph import Graph
from onnxq.plan import Plan
from onnxq.targets import tensorrt
from onnxq.targets.options import PlanOptions

TARGETS: dict[str, Callable[[Graph, PlanOptions, str], Plan]] = {"tensorrt": tensorrt.plan}


def plan(graph: Graph, options: PlanOptions, model: str) -> Plan:
    """The plan of a prepared graph for `options.target`; `model` is the model file's hash.

    Raises PlanError for an unknown target, a scheme that it cannot run, a pattern that matches
    nothing.
    """
    if options.target not in TARGETS:
        raise PlanError(f"unknown target '{options.target}'; choose one of {', '.join(TARGETS)}")
    return TARGETS[options.target](graph, options, model)
