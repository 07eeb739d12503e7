"""Factors in front of depthwise Convs cost an engine nothing."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq import api
from onnxq.model.graph import save
from onnxq.pipeline.config import Config

FORMS = {
    "HardSwish written out": "a = Add(p, three)  c = Clip(a, zero, six)"
    "  m = Mul(p, c)  h = Div(m, six)",
    "HardSwish": "h = HardSwish(p)",
    "HardSigmoid": "a = HardSigmoid<alpha = 0.1666667>(p)  h = Mul(p, a)",
    "SiLU": "a = Sigmoid(p)  h = Mul(p, a)",
    "GELU": "h = Gelu(p)",
    "GELU by tanh": 'h = Gelu<approximate = "tanh">(p)',
    "Mish": "h = Mish(p)",
    "squeeze and excitation": """a = HardSwish(p)  b = GlobalAveragePool(a)  c = Conv(b, w)
        d = HardSigmoid(c)  h = Mul(a, d)""",
}
BODY = """(float[1,32,16,16] x) => (float[1,32,16,16] y) {
    three = Constant<value = float {3.0}>()  zero = Constant<value = float {0.0}>()
    six = Constant<value = float {6.0}>()  [pw] p = Conv(x, w)  %s
    [dw] t = Conv<group = 32, pads = [1, 1, 1, 1]>(h, k)  [head] y = Conv(t, v)}"""


@pytest.mark.parametrize(
    ("form", "high_precision"),
    [*((form, "fp16") for form in FORMS), ("HardSwish written out", "fp32"), ("HardSwish", "fp32")],
)
def test_the_kernels_are_the_same(form, high_precision, graph_of, engine_of_graph, rng, tmp_path):
    gain = np.exp(np.linspace(-5, 0, 32))[:, None, None, None]
    weights = {
        "w": rng.normal(0, 0.2, (32, 32, 1, 1)) * gain * 8,
        "k": rng.normal(0, 0.2, (32, 1, 3, 3)) / gain,
        "v": rng.normal(0, 0.2, (32, 32, 1, 1)),
    }
    body = BODY % FORMS[form]
    graph = graph_of(body, {n: v.astype(np.float32) for n, v in weights.items()}, opset=20)
    save(graph, tmp_path / "float.onnx")
    np.save(tmp_path / "x.npy", rng.standard_normal((16, 32, 16, 16)).astype(np.float32))
    kernels, traffic = [], []
    for recover in ("none", "channels"):
        config = Config(recover=recover, high_precision=high_precision, check_samples=0)
        made = api.quantize(tmp_path / "float.onnx", [str(tmp_path / "x.npy")], config)
        found = made.manifest["recovered"]
        assert ["dw" in outcome["gain_db"] for outcome in found] == [True] * (recover == "channels")
        engine = engine_of_graph(made.graph)
        kernels.append([(k.kind, k.name, k.inputs, k.outputs) for k in engine.kernels])
        traffic.append(engine.traffic)
    assert kernels[0] == kernels[1]
    assert traffic[1] - traffic[0] <= 4 * 32  # bytes: the factors take the place of a number
