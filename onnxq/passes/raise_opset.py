"""Raise the opset where Q/DQ needs it: 13 for scales per channel, 19 for FP8, 21 for INT4.

onnx's version converter rewrites the ops that changed; `old_meanings` sees to those of which it
changes what they compute. It works on a copy without the large
weights, which are put back by name afterwards; functions and other domains stay as they are. Ops
that onnx does not know in its own domain, which exporters for other runtimes write there
(SparseConvolution, a Reshape whose shape is an attribute), pass through in a domain of their own.
"""

from __future__ import annotations

import logging

import onnx
from onnx import version_converter

from onnxq.errors import ModelError
from onnxq.model.graph import Graph, is_standard
from onnxq.passes.apply import Pass
from onnxq.passes.old_meanings import NoWords, keep_meanings, write_meanings
from onnxq.passes.weightless import refill, weightless
from onnxq.spec import LEAST_OPSET

log = logging.getLogger(__name__)

UNKNOWN = "onnxq.unknown"  # where unknown ops are while onnx converts the others


def raise_opset(graph: Graph) -> int:
    """Raise the opset to 13 unless it is there; 1 if it was raised. Raises as `raise_opset_to`."""
    return _raise(graph, LEAST_OPSET)


def raise_opset_to(minimum: int) -> Pass:
    """A pass that raises the opset to `minimum`; it raises ModelError where onnx cannot."""

    def raise_opset(graph: Graph) -> int:
        return _raise(graph, minimum)

    return raise_opset


def _raise(graph: Graph, minimum: int) -> int:
    if graph.opset >= minimum:
        return 0
    if scan := next((n for n in graph.nodes if n.op == "Scan" and graph.opset < 9), None):
        raise ModelError(  # the converter leaves it as it is, which is another Scan: no batch axis
            f"opset {graph.opset} cannot be raised to {minimum}: onnx cannot convert op Scan of "
            f"node '{scan.name}'; export the model again with opset {minimum} or later"
        )
    log.info("opset raised from %d to %d", graph.opset, minimum)
    model, weights = weightless(graph)
    model.ir_version = max(model.ir_version, 4)  # before it every constant had to be an input too
    unknown = _set_apart(model, graph.opset)
    try:
        meanings = keep_meanings(model, graph.opset, minimum)
    except NoWords as e:
        raise ModelError(
            f"opset {graph.opset} cannot be raised to {minimum}: {e}; export the model again with "
            f"opset {minimum} or later"
        ) from e
    try:
        converted = version_converter.convert_version(model, minimum)
    except Exception as e:  # the converter raises RuntimeError and its own ConvertError
        raise ModelError(
            f"opset {graph.opset} cannot be raised to {minimum}: {_blame(model, minimum)}"
            f"{_reason(e)}; export the model again with opset {minimum} or later"
        ) from e
    write_meanings(converted, meanings)
    if unknown:
        _take_back(converted)
    refill(graph, converted, weights)
    graph.ir_version = max(
        graph.ir_version or 0,
        onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", minimum)]),
    )
    return 1


def _set_apart(model: onnx.ModelProto, opset: int) -> int:
    """Move the nodes that onnx does not know out of its domain; how many there are."""
    unknown = [node for node in model.graph.node if _is_unknown(node, opset)]
    for node in unknown:
        node.domain = UNKNOWN
    if unknown:
        model.opset_import.append(onnx.helper.make_opsetid(UNKNOWN, 1))
    return len(unknown)


def _is_unknown(node: onnx.NodeProto, opset: int) -> bool:
    """Whether a node of onnx's own domain is none of its ops, or has fewer inputs than its op."""
    if not is_standard(node):
        return False
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return not onnx.defs.has(node.op_type)
    return len(node.input) < schema.min_input


def _take_back(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.domain == UNKNOWN:
            node.domain = ""
    kept = [opset for opset in model.opset_import if opset.domain != UNKNOWN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _reason(e: Exception) -> str:
    """What the converter says, in parentheses; nothing where it is an assertion in its source."""
    line = str(e).strip().splitlines()[0] if str(e).strip() else ""
    return f" ({line})" if line and "Assertion" not in line else ""


def _blame(model: onnx.ModelProto, minimum: int) -> str:
    """The op and name of the first node that onnx cannot convert, found by halving the graph."""
    fine, bad = 0, len(model.graph.node)
    while bad - fine > 1:
        middle = (fine + bad) // 2
        fine, bad = (fine, middle) if _fails(model, middle, minimum) else (middle, bad)
    node = model.graph.node[bad - 1]
    return f"onnx cannot convert op {node.op_type} of node '{node.name}'"


def _fails(model: onnx.ModelProto, count: int, minimum: int) -> bool:
    """Whether the first `count` nodes cannot be converted."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[count:]
    del part.graph.output[:]
    names = [name for name in part.graph.node[-1].output if name]
    part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names)
    try:
        version_converter.convert_version(part, minimum)
    except Exception:
        return True
    return False
