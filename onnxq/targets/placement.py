"""The targets: a table of placement rules each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from onnxq.errors import ModelError, PlanError
from onnxq.model.graph import Graph
from onnxq.plan import Plan
from onnxq.targets import onnxruntime, tensorrt
from onnxq.targets.attribute_ops import with_attributes
from onnxq.targets.fp4_rules import refuse_without_fp4
from onnxq.targets.fused import fused_weights
from onnxq.targets.options import PlanOptions
from onnxq.targets.specs import refuse_unused_blocks

TARGETS: dict[str, Callable[[Graph, PlanOptions, str], Plan]] = {
    "tensorrt": tensorrt.plan,
    "onnxruntime": onnxruntime.plan,
}


def plan(graph: Graph, options: PlanOptions, model: str) -> Plan:
    """The plan of a prepared graph for `options.target`; `model` is the model file's hash.

    Raises PlanError for an unknown target, a scheme that it cannot run, a pattern that matches
    nothing, a block size that no weight can have; ModelError for a graph that is not sound.
    """
    if options.target not in TARGETS:
        raise PlanError(f"unknown target '{options.target}'; choose one of {', '.join(TARGETS)}")
    try:
        made = TARGETS[options.target](graph, options, model)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        raise ModelError(  # such as a Conv with a weight of one axis, which onnx.checker lets pass
            f"the graph '{graph.name}' cannot be planned and may be damaged ({type(e).__name__}: "
            f"{e}); see whether ONNX Runtime runs it, or export it again"
        ) from e
    made = replace(made, skipped={**made.skipped, **fused_weights(graph)})
    refuse_unused_blocks(options, made)
    refuse_without_fp4(graph, options, made)
    return with_attributes(graph, made, options) if options.attribute_op else made
