"""Q/DQ as tools write it, in ONNX text, and its constants."""

from __future__ import annotations

import numpy as np

WEIGHT = np.random.default_rng(0).normal(size=(16, 16, 3, 3)).astype(np.float32)
CONV = "Conv<pads = [1, 1, 1, 1]>"

STORED = f"""
    q = QuantizeLinear(x, s, z)
    d = DequantizeLinear(q, s, z)
    w = DequantizeLinear<axis = 0>(conv_weight_quantized, sw, zw)
    [first] a = {CONV}(d, w)
    [relu] r = Relu(a)
    [second] y = {CONV}(r, other)
"""
FLOAT_WEIGHTS = f"""
    q = QuantizeLinear(x, s, z)
    d = DequantizeLinear(q, s, z)
    qw = QuantizeLinear<axis = 0>(weight, sw, zw)
    w = DequantizeLinear<axis = 0>(qw, sw, zw)
    [first] y = {CONV}(d, w)
"""
HALF = f"""
    h = Cast<to = 10>(x)
    f = Cast<to = 1>(h)
    q = QuantizeLinear(f, s, z)
    d = DequantizeLinear(q, s, z)
    dh = Cast<to = 10>(d)
    [relu] r = Relu(dh)
    qr = QuantizeLinear(r, sh, z)
    dr = DequantizeLinear(qr, sh, z)
    qw = QuantizeLinear<axis = 0>(weight, swh, zw)
    w = DequantizeLinear<axis = 0>(qw, swh, zw)
    [first] a = {CONV}(dr, w)
    y = Cast<to = 1>(a)
"""
CLIPPED = f"""
    q = QuantizeLinear(x, s, z)
    c = Clip(q, least, most)
    d = DequantizeLinear(c, s, z)
    [first] y = {CONV}(d, weight)
"""


def numbers(dtype: type = np.float32, zero: int = 0, code: type = np.int8) -> dict[str, np.ndarray]:
    """A scale and a zero point for activations (s, z) and, per channel, for WEIGHT (sw, zw)."""
    per_channel = np.abs(WEIGHT).max(axis=(1, 2, 3)) / 127
    return {
        "s": np.array(0.05, dtype),
        "z": np.array(zero, code),
        "sw": per_channel.astype(dtype),
        "zw": np.zeros(16, np.int8),
    }


def codes() -> np.ndarray:
    """WEIGHT per channel in INT8."""
    scale = numbers()["sw"].reshape(-1, 1, 1, 1)
    return np.clip(np.rint(WEIGHT / scale), -128, 127).astype(np.int8)
