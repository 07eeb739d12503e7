"""Move a Softmax in front of the Transpose that it reads, where its axis is not the last.

    x -> Transpose(p) -> Softmax(axis) -> y   =>   x -> Softmax(p[axis]) -> Transpose(p) -> y

The same numbers. ONNX Runtime transposes before and after a Softmax over another axis than the
last, and the further from the end it is the slower: at the head of a YOLO, 5.9 ms for axis 1 and
0.8 ms for axis 2 of the same values, of 40 ms in all.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxq.model.graph import Graph, Node, is_output, producer
from onnxq.passes.name_nodes import names_of, new_name


def softmax_before_transpose(graph: Graph) -> int:
    """Swap such pairs in place; how many. A Transpose with other consumers stays."""
    taken = names_of(graph)
    count = 0
    for softmax in [n for n in graph.nodes if n.op == "Softmax"]:
        before = producer(softmax.inputs[0])
        if before is None or before.op != "Transpose" or not before.attrs.get("perm"):
            continue
        perm = list(before.attrs["perm"])
        axis = int(softmax.attrs.get("axis", -1)) % len(perm)
        moved = before.outputs[0]
        if axis < perm[axis] and len(moved.outputs) == 1 and not is_output(graph, moved):
            _swap(softmax, before, perm[axis], new_name(f"{softmax.name}_moved", taken))
            count += 1
    if count:
        graph.toposort()
    return count


def _swap(softmax: Node, transpose: Node, axis: int, name: str) -> None:
    source, out = transpose.inputs[0], softmax.outputs[0]
    between = gs.Variable(name, out.dtype, source.shape)
    softmax.attrs["axis"] = axis
    softmax.inputs, softmax.outputs = [source], [between]
    transpose.inputs, transpose.outputs = [between], [out]
