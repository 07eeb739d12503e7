"""Take out nodes that only pass their input on: Identity, and Dropout at inference.

    x -> Identity -> y -> consumers   =>   x -> consumers

Where y is an output of the graph its name is kept, and the node that wrote x writes y. Between
an input or a constant and an output of the graph there is nothing to rename: the node stays.
"""

from __future__ import annotations

import logging

from onnxq.model.graph import Graph, Node, Tensor, constant_of, is_output, is_standard

log = logging.getLogger(__name__)


def remove_identity(graph: Graph) -> int:
    """Remove Identity and inference Dropout; how many nodes went."""
    gone: set[int] = set()
    for node in graph.nodes:
        if node.op not in ("Identity", "Dropout") or not is_standard(node):
            continue
        if reason := _reason_to_keep(graph, node):
            log.info("%s '%s' kept: %s", node.op, node.name, reason)
            continue
        _bypass(graph, node)
        gone.add(id(node))
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]
    return len(gone)


def replace_tensor(old: Tensor, new: Tensor) -> None:
    """Let every consumer of `old`, those in subgraphs too, read `new` instead."""
    for consumer in list({id(n): n for n in old.outputs}.values()):
        for i, tensor in enumerate(list(consumer.inputs)):
            if tensor is old:
                consumer.inputs[i] = new


def _reason_to_keep(graph: Graph, node: Node) -> str:
    x, y = node.inputs[0], node.outputs[0]
    if node.op == "Dropout":
        if len(node.inputs) > 2 and not node.inputs[2].is_empty():
            training = constant_of(node.inputs[2])
            if training is None or bool(training.any()):
                return "it is in training mode"
        if any(t.outputs or is_output(graph, t) for t in node.outputs[1:]):
            return "its mask is used"
    if is_output(graph, y):
        if not x.inputs:
            return "it joins an input or a constant to an output of the graph"
        if is_output(graph, x):
            return "it joins two outputs of the graph"
    return ""


def _bypass(graph: Graph, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    node.inputs.clear()
    node.outputs.clear()
    if not is_output(graph, y):
        replace_tensor(y, x)
        return
    writer = x.inputs[0]
    place = next(i for i, t in enumerate(writer.outputs) if t is x)
    writer.outputs[place] = y
    replace_tensor(x, y)
