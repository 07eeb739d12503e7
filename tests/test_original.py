"""Figures are against the file that the user gave, and a graph that computes something else is
refused; models that draw numbers, tie or have no numbers are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxq import api
from onnxq.errors import ModelError
from onnxq.judge import accuracy
from onnxq.model.graph import to_proto
from onnxq.pipeline import original
from onnxq.pipeline.config import Config
from onnxq.run.runtime import Runtime
from onnxq.sensitivity import Options
from onnxq.targets.options import PlanOptions

CONFIG = Config(placement=PlanOptions(min_channels=1), workers=1, check_samples=2, recover="none")
NORMED = """(float[N,4,6,6] x) => (float[N,6,6,6] y) {
    a = Conv<pads = [1,1,1,1]>(x, w) b = BatchNormalization(a, g, s, m, v) c = Relu(b)
    y = Conv(c, w2) }"""


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(0, 0.2, (6, 4, 3, 3)), "w2": rng.normal(0, 0.4, (6, 6, 1, 1)),
        "g": rng.uniform(0.5, 2, 6), "s": rng.normal(size=6), "m": rng.normal(size=6),
        "v": rng.uniform(0.5, 2, 6),
    }  # fmt: skip


@pytest.fixture
def files_of(tmp_path, graph_of):
    """`files_of(body, opset=...)`: a model file and calibration data for its input `x`."""

    def make(body, opset=17, shape=(8, 4, 6, 6), dtype=np.float32):
        values = {k: v.astype(dtype) for k, v in weights().items()}
        model, data = tmp_path / "model.onnx", tmp_path / "x.npy"
        onnx.save(to_proto(graph_of(body, values, opset)), model)
        np.save(data, np.random.default_rng(1).normal(size=shape).astype(dtype))
        return model, data

    return make


def prepared(files):
    model, data = files
    source = api.prepare(model, CONFIG)
    return source, api.data(source, [str(data)], CONFIG)


def off_by(share):
    """A pass that makes the last Conv's weights larger by that share."""

    def enlarge(graph):
        conv = [node for node in graph.nodes if node.op == "Conv"][-1]
        conv.inputs[1].values = conv.inputs[1].values * np.float32(1 + share)
        return 1

    return enlarge


def changed(source, share):
    """The source with a graph that computes something else, by one pass more."""
    graph, one = source.graph.copy(), off_by(share)
    one(graph)
    known = replace(source.original, passes=(*source.original.passes, one), held=False)
    return replace(source, graph=graph, original=known)


def plain(path, x):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def test_a_graph_that_computes_what_its_file_does_is_held(files_of):
    source, data = prepared(files_of(NORMED))
    original.hold(source, data, Runtime())
    assert source.original.held
    assert list(original.notes(source)) == []


def test_a_pass_that_changes_the_numbers_is_named_with_the_output(files_of):
    source, data = prepared(files_of(NORMED))
    wrong = changed(source, 0.01)
    with pytest.raises(ModelError, match=r"pass 'enlarge' changes .*output 'y' differs by 0\.01 "):
        original.hold(wrong, data, Runtime())
    with pytest.raises(ModelError, match="pass 'enlarge'"):
        api.calibrate(wrong, api.plan(wrong, CONFIG), data, CONFIG)


def test_what_is_measured_is_the_distance_to_the_file(files_of):
    # 3e-4 is let through as rounding, 70 dB below the values, and must show in every figure
    files = files_of(NORMED)
    source, data = prepared(files)
    near = changed(source, 3e-4)
    expected = -20 * np.log10(3e-4)
    to_file = api.compare(near, source.graph, data, CONFIG)["y"].sqnr_db
    assert to_file > 120  # folded BatchNormalization: float32 alone
    # one Conv is larger as a whole: to the rounding of float32
    assert api.compare(near, near.graph, data, CONFIG)["y"].sqnr_db == pytest.approx(expected, 1e-2)


def test_what_quantize_prints_is_what_a_plain_session_of_the_file_says(files_of):
    model, data = files_of(NORMED, opset=9)
    result = api.quantize(model, [str(data)], CONFIG)
    samples = [x[None] for x in np.load(data)]
    api.write(result, model.with_name("q.onnx"), CONFIG)
    each = [
        accuracy.agreement(plain(model, x), plain(model.with_name("q.onnx"), x)) for x in samples
    ]
    found = result.agreement["y"].noise
    # one of the eight is held out; kernels may add up in another order
    assert any(found == pytest.approx(one.noise, 1e-4) for one in each)


def test_scores_of_sensitivity_are_against_the_file(files_of):
    source, data = prepared(files_of(NORMED))
    near = changed(source, 3e-4)
    plan = api.plan(near, CONFIG)
    ranges = api.read(near, plan, api.calibrate(near, plan, data, CONFIG), "max")
    nodes = len(plan.nodes)
    ranking = api.sensitivity(near, plan, ranges, data, Options(curve=(nodes,)), CONFIG)
    # with all nodes float nothing is left but what the graph is off by
    assert dict(ranking.curve)[nodes] == pytest.approx(-20 * np.log10(3e-4), 1e-2)


CONV = "a = Conv<pads = [1,1,1,1]>(x, w)"
HARMLESS = {
    "random numbers": f"{CONV} r = RandomNormalLike(a) y = Add(a, r)",
    "dropout in training": f"{CONV} y, k = Dropout(a, ratio, training)",
    "infinities and NaN": f"{CONV} n = Relu(a) z = Sub(n, n) i = Div(a, z) y = Add(i, a)",
    "classes": f"{CONV} i = ArgMax<axis = 1>(a) y = Cast<to = 1>(i)",
    "integers": f"{CONV} y = ArgMax<axis = 1>(a)",
    "ties": f"{CONV} c = Floor(a) k = Constant<value_ints = [3]>() d, y = TopK<axis = 1>(c, k)",
    "lengths": f"{CONV} p = Greater(a, zero) y = NonZero(p)",
    "zeros": f"{CONV} y = Sub(a, a)",
}


@pytest.mark.parametrize("what", HARMLESS)
def test_a_right_model_is_not_refused(files_of, what):
    kind = "int64" if what in ("integers", "ties", "lengths") else "float"
    shape = "M,K" if what == "lengths" else "N,C,H,W"
    constants = "<float ratio = {0.5}, bool training = {1}, float zero = {0.0}>"
    body = f"(float[N,4,6,6] x) => ({kind}[{shape}] y) {constants} {{ {HARMLESS[what]} }}"
    source, data = prepared(files_of(body))
    original.hold(source, data, Runtime())


def test_a_half_model_may_differ_by_the_rounding_of_its_type(files_of):
    source, data = prepared(files_of(NORMED.replace("float[", "float16["), dtype=np.float16))
    original.hold(source, data, Runtime())
    graph = source.graph.copy()
    conv = [node for node in graph.nodes if node.op == "Conv"][-1]
    conv.inputs[1].values = conv.inputs[1].values * np.float16(1.5)
    wrong = replace(source, graph=graph, original=replace(source.original, held=False))
    with pytest.raises(ModelError, match=r"differs by 0\.5"):
        original.hold(wrong, data, Runtime())


def test_a_file_that_onnx_runtime_cannot_run_is_said_and_the_graph_compared_with(files_of):
    dead = NORMED.replace("y = Conv(c, w2)", "y = Conv(c, w2) d = my.Op(x)")
    model, data = files_of(dead)
    with pytest.raises(Exception, match=r"my[.:]Op|not a registered"):
        plain(model, np.load(data)[:1])
    result = api.quantize(model, [str(data)], CONFIG)
    assert result.agreement["y"].sqnr_db > 10
    (note,) = [n for n in result.manifest["notes"] if "prepared graph" in n]
    assert "ONNX Runtime has no op 'my:Op'" in note or "my.Op" in note


def test_requantized_is_compared_with_the_quantized_file(files_of, tmp_path):
    model, data = files_of(NORMED)
    first = api.quantize(model, [str(data)], CONFIG)
    api.write(first, tmp_path / "q.onnx", CONFIG)
    again = api.quantize(tmp_path / "q.onnx", [str(data)], replace(CONFIG, requantize=True))
    assert any("as it is, which is quantized" in note for note in again.manifest["notes"])


def test_the_upsampling_of_old_opsets_is_what_is_quantized(files_of, rng):
    body = """(float[N,4,6,6] x) => (float[N,6,H,W] y) <float[4] up = {1.0, 1.0, 1.5, 1.5}> {
        a = Conv<pads = [1,1,1,1]>(x, w) u = Upsample<mode = "linear">(a, up) y = Conv(u, w2) }"""
    model, data = files_of(body, opset=9)
    x = np.load(data)[:1]
    source = api.prepare(model, CONFIG)
    (after,) = accuracy.outputs(to_proto(source.graph), [{"x": x}])
    # the same kernels on the same values, fused otherwise at most
    np.testing.assert_allclose(after["y"], plain(model, x), rtol=1e-5, atol=1e-6)
