"""Rules on the values of weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxq.arrays import Array
from onnxq.model.graph import WEIGHTED, Tensor, constant_of
from onnxq.model.stored import Stored
from onnxq.trt.context import Context
from onnxq.trt.rule import ONNX, Place, Rule

OPS = (*WEIGHTED, "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GRU",
       "LSTM", "RNN")  # fmt: skip
LARGEST = 64 << 20  # bytes of a weight in a file of its own that are read to look at it
EXPONENT = 0x7C00  # of FP16, which NumPy compares slowly


def non_finite_weights(ctx: Context) -> Iterator[Place]:
    """Weights that hold NaN or infinity, of ops that multiply by them."""
    for node in ctx.nodes:
        for tensor in node.inputs if node.op in OPS else ():
            q = ctx.dequantizer(tensor)
            source = tensor if q is None else ctx.source(q)
            values = None if _is_large(source) else constant_of(source)
            if values is not None and (what := _non_finite(values)):
                yield node, f"the constant '{source.name}' holds {what}"


def _is_large(tensor: Tensor) -> bool:
    stored = getattr(tensor, "_values", None)
    return isinstance(stored, Stored) and stored.nbytes > LARGEST


def _non_finite(values: Array) -> str:
    """NaN or an infinity among the values; empty for neither."""
    if values.dtype.kind != "f" or not values.size:
        return ""
    if values.dtype == np.float16:
        bits = np.ascontiguousarray(values).view(np.uint16) & EXPONENT
        if not (bits == EXPONENT).any():
            return ""
    low, high = float(values.min()), float(values.max())  # of NaN: NaN
    if np.isnan(low):
        return "NaN"
    return next((str(x) for x in (low, high) if np.isinf(x)), "")


RULES: tuple[Rule, ...] = (
    Rule(
        "non-finite-weight", "inaccurate",
        "A weight that is NaN or infinite makes the products NaN or infinite; onnxq quantize "
        "refuses it.",
        ONNX, "export the model from sound weights", non_finite_weights,
    ),
)  # fmt: skip
