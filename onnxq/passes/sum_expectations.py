"""Write a Conv that takes the mean under a Softmax as a product and a sum.

    p = Softmax(x)   y = Conv(p, w)   w: [1, C, 1, 1]   =>   y = ReduceSum(p * w, axis 1)

The same numbers: the head of a YOLO takes the mean of 16 distances so. With one channel out, such
a Conv stays float, and as a kernel of its own it has the shares written to memory and read again; a
product and a sum are computed in the kernel of the Softmax. A Transpose may stand between.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.model.flow import same_source
from onnxq.model.graph import Graph, Node, constant_of, is_standard, producer
from onnxq.passes.name_nodes import names_of, new_name


def sum_expectations(graph: Graph) -> int:
    """Rewrite such Convs in place, in a graph of opset 13 or later; how many."""
    taken = names_of(graph)
    found = expectations(graph)
    for conv in found:
        _rewrite(graph, conv, taken)
    if found:
        graph.toposort()
    return len(found)


def expectations(graph: Graph) -> list[Node]:
    """The Convs that take a mean under a Softmax."""
    return [node for node in graph.nodes if _is_expectation(node)]


def _is_expectation(node: Node) -> bool:
    if node.op != "Conv" or not is_standard(node) or len(node.inputs) != 2:
        return False
    weight = constant_of(node.inputs[1])
    if weight is None or weight.shape[0] != 1 or set(weight.shape[2:]) - {1}:
        return False
    moved = any(node.attrs.get("pads", ())) or set(node.attrs.get("strides", ())) - {1}
    if moved or node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    before = producer(same_source(node.inputs[0]))
    return before is not None and before.op == "Softmax"


def _rewrite(graph: Graph, conv: Node, taken: set[str]) -> None:
    shares, weight = conv.inputs
    product = gs.Variable(new_name(f"{conv.name}_product", taken), shares.dtype, shares.shape)
    axis = gs.Constant(new_name(f"{conv.name}_axis", taken), np.array([1]))
    multiply = gs.Node("Mul", new_name(f"{conv.name}_Mul", taken), {}, [shares, weight], [product])
    graph.nodes.insert(graph.nodes.index(conv), multiply)
    conv.op, conv.attrs, conv.inputs = "ReduceSum", {"keepdims": 1}, [product, axis]
