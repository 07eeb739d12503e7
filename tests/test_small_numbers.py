"""Numbers of any size: inputs of 1e-7, weights of 1e-6, outputs in units of their own."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.numpy_helper import from_array

from onnxq import api
from onnxq.model.graph import from_proto, to_proto
from onnxq.numerics import sqnr_db
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec
from onnxq.targets.options import PlanOptions

UNITS = np.array([1, 1e-2, 1e-4, 1e-6, 1e-8], np.float32)
DEPTH, ROWS = 32, 64


def product(weight, bias=None):
    """y = x W, or x W + b."""
    shape = ["N", weight.shape[0]], ["N", weight.shape[1]]
    weights = {"w": weight} if bias is None else {"w": weight, "b": bias}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", *weights], ["y"], "fc")],
        "g",
        [helper.make_tensor_value_info("x", 1, shape[0])],
        [helper.make_tensor_value_info("y", 1, shape[1])],
        [from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def fake(x, axis=None):
    """`x` in 127 steps of its largest value, in float64: no code of ours."""
    step = np.abs(x).max(axis=axis, keepdims=axis is not None).astype(np.float64) / 127
    return np.rint(x / step) * step


def plain(model, x):
    """What a session gives as it comes."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def columns(weight, x, y, bias=0.0):
    """By how many dB each column is better or worse than NumPy's."""
    exact = x.astype(np.float64) @ weight + bias
    theirs = fake(x) @ fake(weight, 0) + bias
    return [sqnr_db(exact[:, i], y[:, i]) - sqnr_db(exact[:, i], theirs[:, i])
            for i in range(weight.shape[1])]  # fmt: skip


def quantized(model, x):
    graph = from_proto(model)
    spec = {Edge("fc", 0): QuantSpec(), Edge("fc", 1): QuantSpec("int8", "channel", 1)}
    insert_qdq(graph, Plan("m", "tensorrt", spec), {"x": float(np.abs(x).max())})
    return to_proto(graph)


@given(
    inputs=st.floats(-7, 7), weights=st.floats(-7, 7), with_bias=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=30)
def test_columns_of_all_units_are_as_near_as_numpy_gets_them(inputs, weights, with_bias, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((ROWS, DEPTH)) * 10**inputs).astype(np.float32)
    w = (rng.standard_normal((DEPTH, len(UNITS))) * UNITS * 10**weights).astype(np.float32)
    b = (UNITS * 10 ** (inputs + weights)).astype(np.float32) if with_bias else None
    y = plain(quantized(product(w, b), x), x)
    # float32 sums and an INT32 bias on one side, float64 on the other: hundredths of a dB
    assert np.abs(columns(w, x, y, 0.0 if b is None else b)).max() < 0.1


@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("size", [1e-7, 1e-3, 1.0, 1e7])
def test_quantize_keeps_small_inputs_and_columns_in_other_units(tmp_path, target, size):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((ROWS, DEPTH)) * size).astype(np.float32)
    w = (rng.standard_normal((DEPTH, len(UNITS))) * UNITS * 1e-3).astype(np.float32)
    onnx.save(product(w), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", x)
    options = PlanOptions(target=target, min_channels=1)
    config = Config(placement=options, method="max", recover="none", workers=1)
    result = api.quantize(tmp_path / "m.onnx", [str(tmp_path / "x.npy")], config)
    y = plain(to_proto(result.graph), x)
    # the range of x is that of the samples to fit to: some values are clipped, codes of UINT8 have
    # steps of another width
    assert min(columns(w, x, y)) > -2
    assert not [note for note in result.manifest["notes"] if "zero" in note]


def test_an_input_too_small_for_any_scale_is_said_and_stays_float(tmp_path):
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Mul", ["x", "k"], ["t"], "shrink"),
             helper.make_node("MatMul", ["t", "w"], ["a"], "small"),
             helper.make_node("MatMul", ["x", "w"], ["b"], "large")]  # fmt: skip
    weights = [from_array(np.float32(1e-25), "k"),
               from_array(rng.standard_normal((16, 16)).astype(np.float32), "w")]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["N", 16])],
        [helper.make_tensor_value_info(n, 1, ["N", 16]) for n in "ab"], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", rng.standard_normal((16, 16)).astype(np.float32))
    config = Config(recover="none", workers=1)
    result = api.quantize(tmp_path / "m.onnx", [str(tmp_path / "x.npy")], config)
    assert {edge.node for edge in result.plan.edges} == {"large"}
    (note,) = [n for n in result.manifest["notes"] if "'small'" in n]
    assert "too little for a scale" in note


def test_a_weight_whose_every_code_is_zero_is_said(tmp_path):
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((DEPTH, 16)) * 1e-4).astype(np.float32)  # Q8.8 has steps of 1 / 256
    onnx.save(product(w), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", rng.standard_normal((ROWS, DEPTH)).astype(np.float32))
    for scheme, lost in (("fixed88", True), ("w8a8", False)):
        options = PlanOptions(scheme=scheme, target="onnxruntime")
        config = Config(placement=options, recover="none", workers=1)
        result = api.quantize(tmp_path / "m.onnx", [str(tmp_path / "x.npy")], config)
        said = [n for n in result.manifest["notes"] if "multiplies by zeros" in n]
        assert bool(said) == lost, scheme
