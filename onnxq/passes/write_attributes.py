"""Replace the Q/DQ of attribute ops by attributes (see `targets.attribute_ops`).

    x -> Q -> DQ -> SparseConvolution  <- DQ <- INT8 weight
    x ------------> SparseConvolution(input_dynamic_range, ...)  <- weight as it was

The graph before this pass is what ONNX Runtime can compare and correct: it rounds what such a node
reads. (What a node hands on in INT8 is what the next one reads, and is rounded there.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxq.model.graph import Graph, Node, Tensor, constant_of, node_by_name, producer
from onnxq.passes.apply import tidy
from onnxq.passes.bias_room import revived
from onnxq.passes.insert_qdq import InsertOptions
from onnxq.plan import Plan
from onnxq.spec import Edge
from onnxq.targets.attribute_ops import WEIGHT, attributes_of, weight_of


def write_attributes(
    graph: Graph,
    before: Graph,
    plan: Plan,
    amax: Mapping[str, float],
    options: InsertOptions | None = None,
) -> int:
    """Replace Q/DQ by attributes in place; returns how many nodes have attributes now.

    `graph` holds the plan's Q/DQ, `before` is the graph without them, `amax` maps a source
    tensor's name to its range. Raises PlanError for a range that is missing and for a spec that
    no attribute can say; the graph is then left as it was.
    """
    options = options or InsertOptions()
    nodes = node_by_name(graph)
    written = [
        (node, attributes_of(before, node, plan, amax, _weight_amax(node, plan, options)))
        for node in before.nodes
        if node.op in plan.attribute_ops
    ]
    tensors = graph.tensors()
    for original, attributes in written:
        node = nodes[original.name]
        node.attrs.update(attributes)
        for i in range(len(node.inputs)):
            if Edge(node.name, i) in plan.edges:
                node.inputs[i] = _float(node, original, i, tensors)
    tidy(graph)
    return len(written)


def _float(node: Node, original: Node, i: int, tensors: dict[str, Tensor]) -> Tensor:
    """What `node` reads without Q/DQ: the weight as it was, or the tensor before the pair."""
    weight = weight_of(original)
    if i == WEIGHT and weight is not None:
        return tensors.setdefault(weight.name, weight.copy())
    dequantize: Node = producer(node.inputs[i])
    quantize: Node = producer(dequantize.inputs[0])
    return quantize.inputs[0]


def _weight_amax(node: Node, plan: Plan, options: InsertOptions) -> list[float]:
    """The range of each output channel; as for Q/DQ, that of a dead one is not zero."""
    weight, spec = weight_of(node), plan.edges.get(Edge(node.name, WEIGHT))
    if weight is None or spec is None:
        return []
    values = constant_of(weight)
    assert values is not None
    plain = np.asarray(options.weight_range(values, spec), np.float64)
    amax = revived(plain, spec).astype(np.float32).ravel()
    return [float(a) for a in np.broadcast_to(amax, values.shape[:1])]
