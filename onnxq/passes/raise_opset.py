"""Raise the opset where Q/DQ needs it: 13 for scales per channel, 19 for FP8, 21 for INT4.

onnx's version converter rewrites the ops that changed. It works on a copy without the large
weights, which are put back by name afterwards; functions and other domains stay as they are.
"""

from __future__ import annotations

import logging

import onnx
from onnx import version_converter

from onnxq.errors import ModelError
from onnxq.graph import Graph, from_proto
from onnxq.passes.apply import Pass
from onnxq.passes.weightless import weightless

log = logging.getLogger(__name__)

MINIMUM = 13


def raise_opset(graph: Graph) -> int:
    """Raise the opset to 13 unless it is there; 1 if it was raised. Raises as `raise_opset_to`."""
    return _raise(graph, MINIMUM)


def raise_opset_to(minimum: int) -> Pass:
    """A pass that raises the opset to `minimum`; it raises ModelError where onnx cannot."""

    def raise_opset(graph: Graph) -> int:
        return _raise(graph, minimum)

    return raise_opset


def _raise(graph: Graph, minimum: int) -> int:
    if graph.opset >= minimum:
        return 0
    log.info("opset raised from %d to %d", graph.opset, minimum)
    model, weights = weightless(graph)
    try:
        converted = version_converter.convert_version(model, minimum)
    except Exception as e:  # the converter raises RuntimeError and its own ConvertError
        raise ModelError(
            f"opset {graph.opset} cannot be raised to {minimum}: {_blame(model, minimum, e)}; "
            f"export the model again with opset {minimum} or later"
        ) from e
    functions = list(graph.functions)
    fresh = from_proto(converted)
    for tensor in [t for t in fresh.inputs if t.name in weights]:
        tensor.to_constant(weights[tensor.name].values)
    fresh.inputs = [t for t in fresh.inputs if t.name not in weights]
    graph.nodes, graph.inputs, graph.outputs = fresh.nodes, fresh.inputs, fresh.outputs
    graph.functions = functions
    graph.opset = minimum
    graph.import_domains = [
        onnx.helper.make_opsetid(o.domain, minimum if o.domain in ("", "ai.onnx") else o.version)
        for o in model.opset_import
    ]
    graph.ir_version = max(
        graph.ir_version or 0,
        onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", minimum)]),
    )
    return 1


def _blame(model: onnx.ModelProto, minimum: int, error: Exception) -> str:
    """Which op stands in the way: one onnx does not know, or one its converter names."""
    known = {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and node.op_type not in known:
            return f"onnx does not know the op {node.op_type} of node '{node.name}'"
    ops = sorted({n.op_type for n in model.graph.node if n.op_type in str(error)}, key=len)
    op = f"op {ops[-1]}: " if ops else ""
    return f"{op}{str(error).splitlines()[0]}"
