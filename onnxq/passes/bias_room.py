"""Scales of dead channels, which leave room for the bias.

Runtimes add the bias of Conv and Gemm as INT32, in steps of (input scale x weight scale). Where the
products of a channel are all but nothing against its bias, as of a channel that training has
pruned, that step is too small: the bias has more steps than INT32 has. The channel gets a larger
scale; what its weights lose by it the bias hides.
"""

from __future__ import annotations

import numpy as np

from onnxq.arrays import Array
from onnxq.model.graph import Node, constant_of
from onnxq.numerics import LEAST, has_scale
from onnxq.passes.rounded import BIAS
from onnxq.spec import QuantSpec

DEAD_CHANNEL = 2.0**-16  # range of a channel that has none, as a share of the weight's largest
ROOM = 2.0**30  # steps of a bias: INT32 has 2^31, the rest is for the products


def revived(amax: Array, spec: QuantSpec) -> Array:
    """Ranges of a weight, float64, with one for each channel that is zero or too small for a scale:
    `DEAD_CHANNEL` of the largest, at least that of the least scale of FP16."""
    spare = max(DEAD_CHANNEL * amax.max(initial=0.0), spec.row.qmax * float(LEAST["float16"]))
    return np.where(has_scale(amax, spec), amax, spare)


def with_room(scale: Array, node: Node, input_scale: Array) -> Array:
    """`scale`, of a channel each, raised where the bias of `node` needs it; float32, same shape."""
    bias = constant_of(node.inputs[BIAS]) if len(node.inputs) > BIAS else None
    if node.op not in ("Conv", "Gemm") or bias is None or bias.shape != scale.shape:
        return scale
    least = np.abs(bias.astype(np.float64)) / (ROOM * input_scale.astype(np.float64))
    return np.maximum(scale, least).astype(np.float32)
