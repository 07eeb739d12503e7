"""Hold the biases of Conv and Gemm on uint8 codes as INT32, as ONNX Runtime's kernels add them.

    bias  ->  DequantizeLinear(round(bias / s), s),   s = activation scale x weight scale, a channel

The sum of products of codes counts steps of s, so the bias is added before anything is rounded. It
is off by half such a step at most. Runs last: what corrects a bias wants it in float.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.arrays import Array
from onnxq.model.graph import Graph, Node, Tensor, constant_of
from onnxq.model.qdq import dequantizer
from onnxq.passes.apply import tidy
from onnxq.passes.name_nodes import names_of, new_name, unique_name
from onnxq.passes.rounded import BIAS, INT32_MAX, largest_sum


def quantize_biases(graph: Graph) -> int:
    """Replace float biases by INT32 ones in place; returns how many.

    A bias that INT32 cannot hold together with the sum of products, or that is not a constant of
    one value a channel, stays float.
    """
    taken = names_of(graph)
    done = 0
    for node in list(graph.nodes):
        step = _step(node)
        bias = constant_of(node.inputs[BIAS]) if step is not None else None
        if step is None or bias is None or bias.ndim != 1 or step.size not in (1, bias.size):
            continue
        codes = np.rint(bias.astype(np.float64) / step.astype(np.float64))
        if np.abs(codes).max(initial=0.0) + largest_sum(node) > INT32_MAX:
            continue
        node.inputs[BIAS] = _dequantized(graph, node, codes.astype(np.int32), step, taken)
        done += 1
    if done:
        tidy(graph)
    return done


def _step(node: Node) -> Array | None:
    """Activation scale x weight scale: a scalar or one a channel; None where it is no such node."""
    if node.op not in ("Conv", "Gemm") or len(node.inputs) <= BIAS:
        return None
    scales = []
    for tensor, dtype in zip(node.inputs[:BIAS], (np.uint8, np.int8), strict=True):
        before = dequantizer(tensor)
        if before is None or before.inputs[-1].dtype != dtype:
            return None
        scale = constant_of(before.inputs[1])
        if scale is None or scale.dtype != np.float32 or "block_size" in before.attrs:
            return None
        scales.append(scale)
    return np.asarray(scales[0] * scales[1], np.float32)


def _dequantized(graph: Graph, node: Node, codes: Array, step: Array, taken: set[str]) -> Tensor:
    """The output of a DequantizeLinear on `codes`."""
    stem = unique_name(f"{node.name}_bias", taken)
    suffixes = ("quantized", "scale", "zero_point", "dequantized")
    names = [new_name(f"{stem}_{suffix}", taken) for suffix in suffixes]
    taken.add(stem)
    constants = [
        gs.Constant(names[0], codes),
        gs.Constant(names[1], step),
        gs.Constant(names[2], np.zeros(step.shape, np.int32)),
    ]
    out = gs.Variable(names[3], np.float32, codes.shape)
    attributes = {"axis": 0} if step.ndim else {}
    name = new_name(f"{stem}_DequantizeLinear", taken)
    graph.nodes.append(gs.Node("DequantizeLinear", name, attributes, constants, [out]))
    return out
