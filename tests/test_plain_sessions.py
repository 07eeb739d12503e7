"""What is printed is what `onnxruntime.InferenceSession(path)` gives, whatever that rounds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array
from onnxq_cli.main import run as onnxq

from onnxq import api, numerics
from onnxq.calib.holdout import held_out
from onnxq.calib.stats import Stats
from onnxq.judge.metrics import Sqnr
from onnxq.judge.parts import Part
from onnxq.model import graph as graphs
from onnxq.pipeline.config import Config
from onnxq.search.meter import Meter
from onnxq.targets.options import PlanOptions

ort.set_default_logger_severity(3)
HEAD = '<ir_version: 10, opset_import: ["": 21]> g '
IMAGES = (24, 16, 10, 10)


def numbers(*shape: int, size: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) * size


def dead_channel():
    """A pruned channel whose bias is large."""
    w, b = numbers(32, 16, 3, 3, size=1 / 12), numbers(32, size=0.1, seed=1)
    w[5], b[5] = 0, 3
    body = """(float[N,16,10,10] x) => (float[N,16] y) {
        c = Conv<pads = [1,1,1,1]>(x, w, b) r = Relu(c) d = Conv(r, v, a) s = Relu(d)
        p = GlobalAveragePool(s) y = Flatten(p) }"""
    return body, {"w": w, "b": b, "v": numbers(16, 32, 1, 1, size=1 / 6), "a": np.full(16, 0.5)}


def nearly_dead_channel():
    """One whose products are far below what its bias takes of INT32, and not zero."""
    body, values = dead_channel()
    values["w"][5] = 1e-9 * numbers(16, 3, 3, seed=2)
    values["b"][5] = -40
    return body.replace("r = Relu(c)", "r = Clip(c, low, high)"), values | {
        "low": np.float32(-50), "high": np.float32(50),
    }  # fmt: skip


def long_sum():
    """A bias that INT32 holds, but not with the sum of products on top."""
    w, b = numbers(1600, 32, size=1 / 40), numbers(32, size=0.1, seed=1)
    w[:, 5] = np.abs(w).max() * 2.0**-9 * (0.9 + 0.1 * np.abs(np.tanh(w[:, 5])))
    x_step = 4.5 / 255
    b[5] = 0.99 * 2**31 * x_step * np.abs(w[:, 5]).max() / 127
    body = """(float[N,16,10,10] x) => (float[N,8] y) {
        p = Abs(x) f = Flatten(p) h = Gemm(f, w, b) r = Relu(h) y = Gemm(r, v) }"""
    return body, {"w": w, "b": b, "v": numbers(32, 8, size=1 / 6)}


def deconvolution():
    """A ConvTranspose that stays float between codes; its channels differ a hundredfold."""
    sizes = np.geomspace(1, 100, 24)
    body = """(float[N,16,10,10] x) => (float[N,16] y) {
        c = Conv<pads = [1,1,1,1]>(x, w, b) r = Relu(c)
        t = ConvTranspose<strides = [2,2]>(r, u, a) s = Relu(t)
        d = Conv(s, v, b16) e = Relu(d) p = GlobalAveragePool(e) y = Flatten(p) }"""
    return body, {
        "w": numbers(32, 16, 3, 3, size=1 / 12),
        "b": numbers(32, size=0.1),
        "u": numbers(32, 24, 2, 2, size=1 / 8) * sizes[:, None, None],
        "a": numbers(24, size=0.1) * sizes,
        "v": numbers(16, 24, 1, 1, size=1 / 5) / sizes[:, None, None],
        "b16": np.full(16, 0.1),
    }


def grouped():
    """A depthwise Conv of one channel a group, without a bias."""
    body = """(float[N,16,10,10] x) => (float[N,16,10,10] y) {
        c = Conv<pads = [1,1,1,1], group = 16>(x, w) r = Relu(c) y = Conv(r, v, b) }"""
    return body, {
        "w": numbers(32, 1, 3, 3, size=1 / 3),
        "v": numbers(16, 32, 1, 1, size=1 / 6),
        "b": numbers(16),
    }


def residual():
    """Small weights: the steps of the biases are below what FP16 holds."""
    body = """(float[N,16,10,10] x) => (float[N,16,10,10] y) {
        c = Conv<pads = [1,1,1,1]>(x, w, b) r = Relu(c) d = Conv(r, v, a) s = Add(d, r) e = Relu(s)
        f = Concat<axis = 1>(e, r) g = Conv(f, u, b) h = Relu(g) i = Flatten(h)
        j = Reshape(h, shape) y = Conv(j, v, a) }"""
    return body, {
        "w": numbers(16, 16, 3, 3, size=0.002),
        "b": numbers(16, size=0.02),
        "v": numbers(16, 16, 1, 1, size=0.05),
        "a": numbers(16, size=0.02, seed=3),
        "u": numbers(16, 32, 1, 1, size=0.05),
    }


def products():
    """Products with weights of few bits, inputs of which plain sessions round too."""
    body = """(float[N,16,10,10] x) => (float[N,48] y) {
        f = Flatten(x) h = MatMul(f, w) r = Relu(h) y = MatMul(r, v) }"""
    return body, {"w": numbers(1600, 128, size=1 / 40), "v": numbers(128, 48, size=1 / 10)}


def at(target: str, scheme: str = "w8a8", half: str = "fp32", **options: str) -> Config:
    return Config(
        high_precision=half, placement=PlanOptions(target=target, scheme=scheme, **options)
    )


CASES = {
    "a dead channel": (dead_channel, at("tensorrt")),
    "a dead channel on codes": (dead_channel, at("onnxruntime")),
    "a dead channel in FP16": (dead_channel, at("tensorrt", half="fp16")),
    "a channel that is nearly dead": (nearly_dead_channel, at("tensorrt")),
    "a channel that is nearly dead, on codes": (nearly_dead_channel, at("onnxruntime")),
    "a long sum": (long_sum, at("tensorrt")),
    "a long sum on codes": (long_sum, at("onnxruntime")),
    "a ConvTranspose": (deconvolution, at("onnxruntime")),
    "a ConvTranspose for TensorRT": (deconvolution, at("tensorrt")),
    "a ConvTranspose of 16 bits": (deconvolution, at("onnxruntime", "w16a16")),
    "a ConvTranspose in FP16": (deconvolution, at("onnxruntime", half="fp16")),
    "a depthwise Conv of 16 bits": (grouped, at("onnxruntime", "w16a16")),
    "a depthwise Conv, fixed": (grouped, at("onnxruntime", "fixed88")),
    "biases of 16 bits": (dead_channel, at("onnxruntime", "w16a16")),
    "FP16": (residual, at("tensorrt", half="fp16")),
    "FP16 with shared Concats": (residual, at("tensorrt", half="fp16", concat="share")),
    "FP16 on codes": (residual, at("onnxruntime", half="fp16")),
    "FP8": (residual, at("tensorrt", "fp8")),
    "4 bits and 8": (residual, at("tensorrt", "w4a8")),
    "4-bit weights": (products, at("tensorrt", "w4a16")),
}


def written(folder: Path, case: str) -> tuple[Path, list[str]]:
    """A model file and its calibration data."""
    body, values = CASES[case][0]()
    values |= {"shape": np.array([0, 16, 10, 10])} if "shape" in body else {}
    proto = onnx.parser.parse_model(HEAD + body)
    for name, x in values.items():
        x = x if name == "shape" else np.asarray(x, np.float32)
        proto.graph.initializer.append(from_array(x, name))
    onnx.save(proto, folder / "m.onnx")
    np.save(folder / "x.npy", np.clip(numbers(*IMAGES, seed=9), -4.5, 4.5).astype(np.float32))
    return folder / "m.onnx", [str(folder / "x.npy")]


def decibels(float_model: Path, model: Path, samples: list[np.ndarray], **options) -> float:
    ref, test = (
        np.concatenate([session.run(None, {"x": x})[0] for x in samples])
        for session in (
            ort.InferenceSession(float_model), ort.InferenceSession(model, **options)
        )
    )  # fmt: skip
    return numerics.sqnr_db(ref, test)


@pytest.mark.parametrize("case", CASES)
def test_the_figure_is_that_of_a_plain_session_and_of_the_model_as_written(case, tmp_path):
    model, calib = written(tmp_path, case)
    config = CASES[case][1]
    result = api.quantize(model, calib, config)
    api.write(result, tmp_path / "q.onnx", config)
    _, check = held_out(api.data(api.prepare(model), calib), config.check_samples)
    samples = [check.sample(i)["x"] for i in range(len(check))]
    plain = decibels(model, tmp_path / "q.onnx", samples)
    # the prepared graph stands for the float model: another order of sums
    assert result.agreement["y"].sqnr_db == pytest.approx(plain, abs=0.1)
    unrounded = decibels(
        model, tmp_path / "q.onnx", samples, disabled_optimizers=["WeightBiasQuantization"]
    )
    assert plain > unrounded - 1  # half a step of INT32 for each bias, and inputs beside weights


@pytest.fixture
def on_the_grid(tmp_path):
    """A product with weights that 4 bits hold: what is lost is what a plain session rounds."""
    model, calib = written(tmp_path, "4-bit weights")
    proto = onnx.load(model)
    w = np.random.default_rng(0).integers(-7, 8, (1600, 128))
    w[::64] = 7  # the largest of each block
    del proto.graph.node[2:], proto.graph.initializer[:]
    proto.graph.node[1].output[0] = "y"
    proto.graph.initializer.append(from_array((w / 128).astype(np.float32), "w"))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 128
    onnx.save(proto, model)
    return str(model), calib[0]


def test_where_a_plain_session_rounds_inputs_beside_weights_both_figures_are_told(
    on_the_grid, tmp_path, capsys
):
    model, calib = on_the_grid
    out = tmp_path / "q.onnx"
    words = ["quantize", model, "--calib", calib, "--scheme", "w4a16", "--recover", "none"]
    assert onnxq([*words, "-o", str(out), "-q"]) == 0
    summary = " ".join(capsys.readouterr().out.split())  # a narrow terminal breaks lines
    manifest = json.loads(Path(f"{out}.manifest.json").read_text())
    rounded = manifest["agreement"]["outputs"]["y"]["sqnr_db"]
    exact = manifest["agreement"]["unrounded"]["y"]["sqnr_db"]
    assert exact > 100 > 60 > rounded
    assert f"{rounded:.2f} dB in a plain ONNX Runtime session" in summary
    assert "100.00 dB as TensorRT computes it" in summary
    assert onnxq(["compare", model, str(out), "--calib", calib, "--min-sqnr", "60"]) == 1
    assert onnxq(["compare", model, str(out), "--calib", calib, "--min-sqnr", "30"]) == 0


CANNOT = "a plain ONNX Runtime session cannot run this model"
HALVES = """(float16[1,4] x) => (float16[1,8] y)
    <int8 z = {0}> {
    q = QuantizeLinear(x, s, z)
    d = DequantizeLinear(q, s, z)
    n = Neg(x)
    o = QuantizeLinear(n, s, z)
    e = DequantizeLinear(o, s, z)
    c = Concat<axis = 1>(d, e)
    p = QuantizeLinear(c, s, z)
    y = DequantizeLinear(p, s, z)
}"""


@pytest.fixture
def not_plainly(tmp_path):
    """A float model, one that a plain session cannot run, and data: it makes of a Concat of codes a
    QLinearConcat, which takes no FP16."""
    proto = onnx.parser.parse_model(HEAD + HALVES)
    proto.graph.initializer.append(from_array(np.float16(1 / 16), "s"))
    onnx.save(proto, tmp_path / "q.onnx")
    body = "(float16[1,4] x) => (float16[1,8] y) { n = Neg(x) y = Concat<axis = 1>(x, n) }"
    onnx.save(onnx.parser.parse_model(HEAD + body), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", numbers(6, 4).astype(np.float16))
    with pytest.raises(Exception, match="QLinearConcat"):
        ort.InferenceSession(tmp_path / "q.onnx")
    return [str(tmp_path / name) for name in ("m.onnx", "q.onnx", "x.npy")]


def test_what_a_plain_session_cannot_run_is_run_otherwise_and_that_is_said(not_plainly, capsys):
    *models, data = not_plainly
    words = ["compare", *models, "--calib", data, "--min-sqnr", "20"]
    assert onnxq(words) == 0
    assert CANNOT in " ".join(capsys.readouterr().out.split())
    assert onnxq([*words, "--json"]) == 0
    assert "QLinearConcat" in json.loads(capsys.readouterr().out)["session"]


def test_diff_says_what_a_plain_session_cannot_run(not_plainly, capsys):
    *models, data = not_plainly
    words = ["diff", *models, "--calib", data]
    assert onnxq(words) == 1
    assert CANNOT in " ".join(capsys.readouterr().out.split())
    assert onnxq([*words, "--json"]) == 1
    (said,) = json.loads(capsys.readouterr().out)["effect_notes"]["B against A"]
    assert CANNOT in said
    assert "QLinearConcat" in said


def test_a_search_keeps_why_a_plain_session_cannot_run_a_plan(not_plainly):
    model, quantized, data = not_plainly
    source = api.open_model(model)
    check = api.data(source, [data])
    stats = Stats(source.sha256, {}, 0, "")
    meter = Meter(source, stats, Sqnr(), (Part("y", "y"),), check, check, Config())
    found = meter.measure(graphs.load(quantized))
    assert found.score > 20
    assert "QLinearConcat" in found.trouble
    assert not meter.measure(source.graph).trouble


def test_sums_of_more_products_than_int32_holds_are_noted(tmp_path, capsys):
    proto = onnx.parser.parse_model(
        HEAD + "(float[N,140000] x) => (float[N,16] y) { [gemm] y = Gemm(x, w) }"
    )
    signs = np.sign(numbers(140_000, 16)).astype(np.float32)  # every code is 127
    proto.graph.initializer.append(from_array(signs, "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", numbers(4, 140_000).astype(np.float32))
    words = ["quantize", str(tmp_path / "m.onnx"), "--calib", str(tmp_path / "x.npy")]
    assert onnxq([*words, "--recover", "none", "-o", str(tmp_path / "q.onnx")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "'gemm' adds up more products than INT32 may hold; leave it float with --skip" in said
