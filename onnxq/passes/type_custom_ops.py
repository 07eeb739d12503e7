"""Give the first output of a custom op the type of its first input, where nothing says its type.

Exporters for other runtimes write no types behind their ops, and onnx infers none. Without them an
FP16 graph would get float32 Q/DQ. Ops that hand on features, as sparse convolutions do, keep the
type; a model with others declares theirs in value_info.
"""

from __future__ import annotations

from onnxq.model.graph import Graph, is_custom
from onnxq.passes.infer_shapes import infer_shapes


def type_custom_ops(graph: Graph) -> int:
    """Set types, and what onnx infers from them; how many custom ops got one."""
    count = 0
    while True:
        found = [
            node
            for node in graph.nodes
            if is_custom(node)
            and node.inputs
            and node.outputs
            and node.outputs[0].dtype is None
            and node.inputs[0].dtype is not None
        ]
        for node in found:
            node.outputs[0].dtype = node.inputs[0].dtype
        if not found:
            return count
        count += len(found)
        infer_shapes(graph)
