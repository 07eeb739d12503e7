"""Keep ONNX Runtime from rounding float weights that stand between codes, as it loads the model.

    Conv(x, w, b)  ->  Conv(x, w, DequantizeLinear(b / s, s)),   s = 2^k, a channel

`rounded` says what ONNX Runtime does of itself. It leaves a node alone whose bias is computed. With
s a power of two and 30 bits the codes are the float bias to the last bit. Not for TensorRT, which
refuses INT32 under a DequantizeLinear, and whose placement has no float node between codes.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.model.geometry import geometry_of
from onnxq.model.graph import Graph, constant_of
from onnxq.passes.apply import tidy
from onnxq.passes.name_nodes import names_of, new_name
from onnxq.passes.rounded import BIAS, bias_of, rounded_nodes

BITS = 30  # of the largest code; float32 has 24
LEAST = -126  # exponent of the least normal float32


def pin_weights(graph: Graph) -> int:
    """Write such biases as INT32 codes in place, zeros where there are none; returns how many."""
    done, taken = 0, names_of(graph)
    for scope, node in rounded_nodes(graph):
        weight = constant_of(node.inputs[1])
        if weight is None or weight.dtype != np.float32:
            continue
        biased = len(node.inputs) > BIAS and not node.inputs[BIAS].is_empty()
        channels = geometry_of(node).output_channels(weight.shape)
        bias = bias_of(node) if biased else np.zeros(channels, np.float32)
        if bias is None or not np.isfinite(bias).all():
            continue
        stem = f"{node.name}_bias"
        exponent = np.maximum(np.frexp(bias)[1] - BITS, LEAST)
        scale = np.ldexp(np.float32(1), exponent)
        codes = np.rint(bias / scale).astype(np.int32)
        out = gs.Variable(new_name(f"{stem}_dequantized", taken), np.float32, bias.shape)
        constants = [
            gs.Constant(new_name(f"{stem}_{what}", taken), values)
            for what, values in (("quantized", codes), ("scale", scale))
        ]
        name = new_name(f"{stem}_DequantizeLinear", taken)
        scope.nodes.append(gs.Node("DequantizeLinear", name, {"axis": 0}, constants, [out]))
        node.inputs = [*node.inputs[:BIAS], out]
        done += 1
    if done:
        tidy(graph)
    return done
