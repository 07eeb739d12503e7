"""Factors in front of depthwise Convs cost an engine nothing."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq import api
from onnxq.config import Config
from onnxq.graph import save

BODY = """(float[1,32,16,16] x) => (float[1,32,16,16] y) {
    three = Constant<value = float {3.0}>()  zero = Constant<value = float {0.0}>()
    six = Constant<value = float {6.0}>()
    [pw] p = Conv(x, w)  a = Add(p, three)  c = Clip(a, zero, six)  m = Mul(p, c)  h = Div(m, six)
    [dw] d = Conv<group = 32, pads = [1, 1, 1, 1]>(h, k)  [head] y = Conv(d, v)}"""


@pytest.mark.parametrize("high_precision", ["fp32", "fp16"])
def test_the_kernels_are_the_same(high_precision, graph_of, engine_of_graph, rng, tmp_path):
    gain = np.exp(np.linspace(-5, 0, 32))[:, None, None, None]
    weights = {
        "w": rng.normal(0, 0.2, (32, 32, 1, 1)) * gain * 8,
        "k": rng.normal(0, 0.2, (32, 1, 3, 3)) / gain,
        "v": rng.normal(0, 0.2, (32, 32, 1, 1)),
    }
    graph = graph_of(BODY, {n: v.astype(np.float32) for n, v in weights.items()})
    save(graph, tmp_path / "float.onnx")
    np.save(tmp_path / "x.npy", rng.standard_normal((16, 32, 16, 16)).astype(np.float32))
    kernels = []
    for recover in ("none", "channels"):
        config = Config(recover=recover, high_precision=high_precision, check_samples=0)
        made = api.quantize(tmp_path / "float.onnx", [str(tmp_path / "x.npy")], config)
        assert len(made.manifest["recovered"]) == (recover == "channels")
        engine = engine_of_graph(made.graph)
        kernels.append([(k.kind, k.name, k.inputs, k.outputs) for k in engine.kernels])
    assert kernels[0] == kernels[1]
