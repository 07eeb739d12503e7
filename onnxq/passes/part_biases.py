"""Write the bias behind its node where ONNX Runtime would lose it as it loads the model.

    y = Conv(x, w, b)   ->   y = Conv(x, w) + b         Gemm: b of shape (N,) becomes (1, N)

`rounded` says what ONNX Runtime does of itself. It is harmless but where INT32 cannot hold the
codes of the bias and the sum of products, or where FP16 cannot: then the written model would give
other numbers than its own. TensorRT builds the same kernels of both forms (seen with TensorRT-RTX
1.7). Runs last: what corrects a bias wants it in its node.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.arrays import Array
from onnxq.model.graph import Graph, Node
from onnxq.passes.apply import tidy
from onnxq.passes.name_nodes import names_of, new_name
from onnxq.passes.rounded import BIAS, bias_of, loses_bias, rounded_nodes


def part_biases(graph: Graph) -> int:
    """Part the biases that would be lost from their nodes, in place; returns how many."""
    lost = [(scope, node) for scope, node in rounded_nodes(graph) if loses_bias(node)]
    taken = names_of(graph) if lost else set()
    for scope, node in lost:
        bias = np.asarray(bias_of(node))
        if node.op == "Gemm":
            name = new_name(f"{node.inputs[BIAS].name}_row", taken)
            node.inputs[BIAS] = gs.Constant(name, bias.reshape(1, -1))
        else:
            _part(scope, node, bias, taken)
    if lost:
        tidy(graph)
    return len(lost)


def _part(scope: Graph, node: Node, bias: Array, taken: set[str]) -> None:
    wide = bias.reshape(1, -1, *[1] * (len(node.inputs[1].shape) - 2))
    added = gs.Constant(new_name(f"{node.inputs[BIAS].name}_wide", taken), wide)
    out = node.outputs[0]
    inner = gs.Variable(new_name(f"{out.name}_unbiased", taken), out.dtype, out.shape)
    del node.inputs[BIAS]
    node.outputs = [inner]
    name = new_name(f"{node.name}_bias_Add", taken)
    scope.nodes.append(gs.Node("Add", name, {}, [inner, added], [out]))
