"""Inputs that only mask: their -inf says "not here" to a Softmax and is no number of the data.

    scores + mask  ->  Softmax          Where(condition, scores, mask)  ->  Softmax

Such an input may reach the Softmax through ops that move or add values, and nothing else may read
it: what a Conv or a MatMul reads must be finite.
"""

from __future__ import annotations

from onnxq.model.graph import Graph, Node, Tensor, constant_of, is_output

MOVE = frozenset({"Cast", "CastLike", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice",
                  "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"})  # fmt: skip
ADD = frozenset({"Add", "Max", "Min", "Sum", "Where"})
SCALE = frozenset({"Div", "Mul"})
NORMALIZE = frozenset({"LogSoftmax", "Softmax"})
ATTENTION_MASK = {"Attention": 3}  # ONNX's op, from opset 23 on


def mask_inputs(graph: Graph) -> frozenset[str]:
    """Names of the inputs whose values only a Softmax sees, added to its scores."""
    return frozenset(t.name for t in graph.inputs if t.outputs and _only_masks(graph, t))


def _only_masks(graph: Graph, tensor: Tensor) -> bool:
    if is_output(graph, tensor):
        return False
    return all(_is_mask_of(graph, node, tensor) for node in tensor.outputs)


def _is_mask_of(graph: Graph, node: Node, tensor: Tensor) -> bool:
    """Whether what `node` makes of the tensor only masks."""
    place = next(i for i, t in enumerate(node.inputs) if t is tensor)
    if node.op in NORMALIZE or ATTENTION_MASK.get(node.op) == place:
        return True
    moved = node.op in MOVE and place == 0
    scaled = node.op in SCALE and any(constant_of(t) is not None for t in node.inputs)
    if not (moved or scaled or node.op in ADD):
        return False
    return all(_only_masks(graph, out) and out.outputs for out in node.outputs)
