"""The prepare pipeline: from an exported model to a graph that can be planned and quantized.

Shapes are inferred before constants are folded, because what is folded depends on them, and once
more after it, because folded shape arithmetic lets more be inferred.
"""

from __future__ import annotations

from onnxq.model.graph import Graph, producer
from onnxq.passes.apply import Pass, apply
from onnxq.passes.cancel_transposes import cancel_transposes
from onnxq.passes.fold_affine import fold_affine
from onnxq.passes.fold_bn import fold_bn
from onnxq.passes.fold_constants import fold_constants
from onnxq.passes.fold_ifs import fold_ifs
from onnxq.passes.fold_pads import fold_pads
from onnxq.passes.in_bodies import in_bodies
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.inline_functions import inline_functions
from onnxq.passes.name_axes import name_axes
from onnxq.passes.name_nodes import name_nodes
from onnxq.passes.raise_opset import raise_opset
from onnxq.passes.remove_identity import remove_identity
from onnxq.passes.split_shared import split_shared

SCALES_AS_INPUT = 10  # the opset of Resize, which means another one by its scales


def fold_before_raising(graph: Graph) -> int:
    """Fold what the scales of a Resize are computed from, where the conversion has to know them."""
    waiting = [
        node.inputs[1]
        for node in graph.nodes
        if node.op in ("Resize", "Upsample") and len(node.inputs) > 1
    ]
    if graph.opset > SCALES_AS_INPUT or not waiting:
        return 0
    count, before = infer_shapes(graph), set[int]()
    while waiting:
        node = producer(waiting.pop())
        if node is not None and id(node) not in before:
            before.add(id(node))
            waiting += node.inputs
    return count + fold_constants(graph, before)


PREPARE: tuple[Pass, ...] = (
    name_nodes,
    name_axes,
    inline_functions,
    fold_before_raising,
    raise_opset,
    name_nodes,
    infer_shapes,
    in_bodies(remove_identity),  # or each Identity of a shared weight would become a copy of it
    in_bodies(fold_constants),
    in_bodies(remove_identity),
    infer_shapes,
    in_bodies(fold_constants),
    fold_ifs,
    in_bodies(remove_identity),
    in_bodies(fold_affine),
    in_bodies(fold_bn),
    in_bodies(fold_affine),
    in_bodies(fold_pads),
    cancel_transposes,
    split_shared,
    infer_shapes,
)


def prepare(graph: Graph) -> Graph:
    """A prepared copy of `graph`; raises ModelError for a model that cannot be prepared."""
    return apply(graph, *PREPARE)
