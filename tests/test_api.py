"""The verbs on a model: the Q/DQ model is the arithmetic of `numerics`, step by step."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array

from onnxq import api, files, numerics
from onnxq.errors import ModelError, PlanError
from onnxq.model import graph
from onnxq.pipeline.config import Config
from onnxq.spec import QuantSpec

RNG = np.random.default_rng(0)
W1 = RNG.normal(size=(16, 16, 3, 3)).astype(np.float32)
W2 = RNG.normal(size=(16, 24)).astype(np.float32)
BIAS = RNG.normal(size=24).astype(np.float32)
X = RNG.normal(size=(12, 16, 6, 6)).astype(np.float32)
TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 16, 6, 6] x) => (float[N, 6, 6, 24] y) {
    h = Conv<pads = [1, 1, 1, 1]>(x, w1)
    r = Relu(h)
    t = Transpose<perm = [0, 2, 3, 1]>(r)
    m = MatMul(t, w2)
    y = Add(m, bias)
}"""


@pytest.fixture
def model(tmp_path):
    proto = onnx.parser.parse_model(TEXT)
    weights = {"w1": W1, "w2": W2, "bias": BIAS}
    proto.graph.initializer.extend(from_array(x, name) for name, x in weights.items())
    onnx.save(proto, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def data(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return [str(tmp_path / "x.npy")]


def run(proto, x):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize("weights_as", ["int", "float"])
@pytest.mark.parametrize("method", ["max", "mse"])
def test_the_model_computes_what_fake_quantization_says(model, data, method, weights_as):
    config = Config(method=method, weights_as=weights_as, recover="none")
    result = api.quantize(model, data, config)
    amax = result.ranges.amax

    def fake(x, amax):
        return numerics.fake_quant(x, amax, QuantSpec())

    def fake_weight(w, axis):
        spec = QuantSpec("int8", "channel", axis)
        return numerics.fake_quant(w, numerics.amax_of(w, spec), spec)

    # ONNX Runtime's float convolution between our quantizers
    h = run(_conv(fake_weight(W1, 0)), fake(X, amax["x"]))
    r = np.maximum(h, 0).transpose(0, 2, 3, 1)
    values = fake(r, amax[result.plan.source.get("t", "t")]) @ fake_weight(W2, 1) + BIAS
    got = run(graph.to_proto(result.graph), X)
    # sums of 16 float32 terms in another order, each up to some 100: errors of some 1e-5
    np.testing.assert_allclose(got, values, rtol=1e-5, atol=1e-4)
    assert not np.allclose(got, run(onnx.load(model), X), rtol=0.0, atol=0.1)


def _conv(w):
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 16, 6, 6] x) => (float[N,16,6,6] y) '
        "{ y = Conv<pads = [1, 1, 1, 1]>(x, w) }"
    )
    proto.graph.initializer.append(from_array(w, "w"))
    return proto


def test_writing_gives_a_model_and_a_manifest_or_neither(model, data, tmp_path):
    result = api.quantize(model, data)
    (tmp_path / "q.onnx.manifest.json").mkdir()  # the second file cannot be put in place
    before = set(tmp_path.iterdir())
    with pytest.raises(ModelError, match="is a folder"):
        api.write(result, tmp_path / "q.onnx")
    assert set(tmp_path.iterdir()) == before
    (tmp_path / "q.onnx.manifest.json").rmdir()
    api.write(result, tmp_path / "q.onnx")
    assert {"q.onnx", "q.onnx.manifest.json"} <= {p.name for p in tmp_path.iterdir()}


def test_files_written_together_appear_together(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("old")

    def write(fail):
        with files.together():
            with files.replacing(a) as temporary:
                temporary.write_text("new")
            assert a.read_text() == "old"
            with files.replacing(b) as temporary:
                temporary.write_text("new")
                if fail:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(fail=True)
    assert ([p.name for p in tmp_path.iterdir()], a.read_text()) == (["a"], "old")
    write(fail=False)
    assert (a.read_text(), b.read_text()) == ("new", "new")
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"}


def test_the_input_model_is_left_alone(model, data):
    before = model.read_bytes()
    api.quantize(model, data)
    assert model.read_bytes() == before


def test_a_quantized_model_is_not_quantized_again(model, data, tmp_path):
    api.write(api.quantize(model, data), tmp_path / "q.onnx")
    with pytest.raises(ModelError, match="is quantized already"):
        api.prepare(tmp_path / "q.onnx")


def test_an_empty_plan_is_no_plan(model):
    empty = api.plan(api.prepare(model)).only()
    with pytest.raises(PlanError, match="nothing to quantize"):
        api.quantize(model, [], plan_from=empty)


def test_auto_without_samples_to_judge_by_is_an_error():
    with pytest.raises(PlanError, match="--check-samples 0"):
        Config(method="auto", check_samples=0)


@pytest.mark.parametrize("recover", ["none", "all"])
def test_a_weight_that_is_quantized_already_is_kept_and_the_rest_quantized(
    graph_of, rng, tmp_path, recover
):
    body = """(float[1,16,9,9] x) => (float[1,16,3,3] y) {a = Conv(x, v) r = Relu(a)
        w = DequantizeLinear<axis = 0>(q, s) b = Conv(r, w) t = Relu(b) y = Conv(t, v)}"""
    constants = {
        "v": rng.normal(0, 0.1, (16, 16, 3, 3)).astype(np.float32),
        "q": rng.integers(-90, 91, (16, 16, 3, 3)).astype(np.int8),
        "s": rng.uniform(1e-3, 2e-3, 16).astype(np.float32),
    }
    onnx.save(graph.to_proto(graph_of(body, constants)), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", rng.standard_normal((16, 16, 9, 9)).astype(np.float32))
    result = api.quantize(tmp_path / "m.onnx", [str(tmp_path / "x.npy")], Config(recover=recover))
    assert len(result.plan.nodes) == 3
    kept = result.graph.tensors()
    np.testing.assert_array_equal(kept["q"].values, constants["q"])
    np.testing.assert_array_equal(kept["s"].values, constants["s"])
    assert result.agreement["y"].sqnr_db > 30  # as INT8 is of three random Convs
