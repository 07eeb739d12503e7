"""Take out pairs of Transposes that undo each other.

    x -> Transpose(p) -> Transpose(q) -> y   =>   x,   where p[q[i]] = i for every axis i

Exporters write such pairs around the BatchNormalization of a Linear layer; once that is folded,
they stand between the layer and its activation and keep TensorRT from fusing the two.
"""

from __future__ import annotations

import logging

from onnxq.model.graph import Graph, Node, is_output, producer
from onnxq.passes.remove_identity import replace_tensor

log = logging.getLogger(__name__)


def cancel_transposes(graph: Graph) -> int:
    """Remove inverse pairs; how many pairs. A first Transpose with other consumers stays."""
    count = 0
    for second in list(graph.nodes):
        first = producer(second.inputs[0]) if second.op == "Transpose" else None
        if first is None or first.op != "Transpose" or not _undoes(first, second):
            continue
        if is_output(graph, second.outputs[0]):
            log.info("Transpose '%s' kept: it writes an output of the graph", second.name)
            continue
        replace_tensor(second.outputs[0], first.inputs[0])
        second.inputs.clear()
        second.outputs.clear()
        count += 1
    if count:
        graph.cleanup()
    return count


def _undoes(first: Node, second: Node) -> bool:
    p, q = first.attrs.get("perm"), second.attrs.get("perm")
    if p is None or q is None:  # the default reverses all axes
        return p is None and q is None
    return len(p) == len(q) and all(p[axis] == i for i, axis in enumerate(q))
