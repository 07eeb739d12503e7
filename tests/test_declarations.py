"""What a model file declares, or leaves out, and ONNX Runtime runs all the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxq import api
from onnxq.config import Config
from onnxq.sensitivity.options import Options

RNG = np.random.default_rng(0)
WEIGHTS = {"w1": RNG.normal(0, 0.1, (16, 16, 3, 3)), "w2": RNG.normal(0, 0.1, (32, 16, 3, 3))}
X = RNG.normal(size=(8, 16, 8, 8)).astype(np.float32)
NET = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 16, 8, 8] x) => (float[N, 32, 8, 8] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, w1)
    mid = Relu(a)
    c = Conv<pads = [1, 1, 1, 1]>(mid, w2)
    y = Relu(c)
}"""


def model_of(text):
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(w.astype(np.float32), name) for name, w in WEIGHTS.items()
    )
    return model


@pytest.fixture
def saved(tmp_path):
    """`saved(model)`: the path of its file, and what calibrates it."""

    def save(model):
        onnx.save(model, tmp_path / "m.onnx")
        np.save(tmp_path / "x.npy", X)
        return tmp_path / "m.onnx", [str(tmp_path / "x.npy")]

    return save


def sensitivity(path, data):
    source = api.prepare(path)
    plan = api.plan(source)
    dataset = api.data(source, data)
    ranges = api.read(source, plan, api.calibrate(source, plan, dataset), "max")
    return api.sensitivity(source, plan, ranges, dataset, Options())


@pytest.mark.parametrize("recover", ["auto", "none", "all"])
def test_an_output_that_a_constant_writes_goes_through(saved, recover):
    text = NET.replace("8, 8] y)", "8, 8] y, float[2, 2] priors)").replace(
        "mid = Relu", "priors = Constant<value = float[2, 2] {1, 2, 3, 4}>() mid = Relu"
    )
    path, data = saved(model_of(text))
    result = api.quantize(path, data, Config(recover=recover))
    assert len(result.plan.nodes) == 2
    assert result.agreement["y"].sqnr_db > 30  # 8 bits: about 35
    assert result.agreement["priors"].noise == 0
    ranking = sensitivity(path, data)
    assert all(np.isfinite(row.overall.score) for row in ranking.rows)
