"""Every type and granularity that a scheme gives is written so that ONNX computes fake_quant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from onnxq.errors import PlanError
from onnxq.model.graph import from_proto, to_proto
from onnxq.numerics import amax_of, fake_quant
from onnxq.passes.insert_qdq import InsertOptions, insert_qdq
from onnxq.passes.to_half import to_half
from onnxq.plan import Plan
from onnxq.run import runtime
from onnxq.schemes import SCHEMES, scheme
from onnxq.spec import DTYPES, Edge, QuantSpec
from onnxq.targets import tensorrt
from onnxq.targets.options import PlanOptions
from onnxq.targets.placement import plan as plan_of

OPSET = 21
# name: (body, shape of x, shape of w, the axis of w that becomes outputs)
OPS = {
    "Conv": ("(float[2,8,6,6] x) => (float[n,c,h,i] y) {[op] y = Conv(x, w)}",
             (2, 8, 6, 6), (16, 8, 3, 3), 0),
    "depthwise Conv": ("(float[2,8,6,6] x) => (float[n,c,h,i] y) {[op] y = Conv<group=8>(x, w)}",
                       (2, 8, 6, 6), (8, 1, 3, 3), 0),
    "ConvTranspose": ("(float[2,8,6,6] x) => (float[n,c,h,i] y) "
                      "{[op] y = ConvTranspose<strides=[2,2]>(x, w)}",
                      (2, 8, 6, 6), (8, 16, 2, 2), 1),
    "MatMul": ("(float[2,3,96] x) => (float[2,3,24] y) {[op] y = MatMul(x, w)}",
               (2, 3, 96), (96, 24), 1),
    "Gemm": ("(float[5,96] x) => (float[5,24] y) {[op] y = Gemm(x, w)}", (5, 96), (96, 24), 1),
    "Gemm transB": ("(float[5,96] x) => (float[5,24] y) {[op] y = Gemm<transB=1>(x, w)}",
                    (5, 96), (24, 96), 0),
    "Gemm transA": ("(float[96,5] x) => (float[5,24] y) {[op] y = Gemm<transA=1>(x, w)}",
                    (96, 5), (96, 24), 1),
    "constant left operand": ("(float[96,5] x) => (float[24,5] y) {[op] y = MatMul(w, x)}",
                              (96, 5), (24, 96), 0),
}  # fmt: skip
SYMMETRIC = [
    name for name, row in DTYPES.items() if row.qmin < 0 and name != "fp4"
]  # of test_fp4.py
GRANULARITIES = ("tensor", "channel", "block 16", "block 32", "block 64")  # 96: the last is shorter


def floats(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return values * np.exp(
        np.random.default_rng(seed + 1).normal(size=shape[:1] + (1,) * (len(shape) - 1))
    ).astype(np.float32)  # channels of unlike ranges


def weight_spec(dtype, granularity, shape, outputs):
    if granularity == "tensor":
        return QuantSpec(dtype)
    if granularity == "channel":
        return QuantSpec(dtype, "channel", outputs)
    return QuantSpec(dtype, "block", 1 - outputs, int(granularity.split()[1]))


def graph_with(body, weight):
    header = f'<ir_version: 10, opset_import: ["": {OPSET}]> g '
    model = onnx.parser.parse_model(header + body)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return from_proto(model)


def dequantized(model, feeds):
    """Every tensor that a DequantizeLinear writes, by ONNX Runtime without its optimizers."""
    names = [n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"]
    for name in names:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = runtime.session(model, threads=1, optimize="none")
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("weights_as", ["int", "float"])
@pytest.mark.parametrize("dtype", SYMMETRIC)
@pytest.mark.parametrize(
    ("op", "granularity"),
    [(op, g) for op in OPS for g in GRANULARITIES if len(OPS[op][2]) == 2 or "block" not in g],
)
def test_onnx_runtime_dequantizes_to_fake_quant_bit_for_bit(op, dtype, granularity, weights_as):
    body, x_shape, w_shape, outputs = OPS[op]
    w, x = floats(*w_shape), floats(*x_shape, seed=5)
    spec = weight_spec(dtype, granularity, w_shape, outputs)
    stored = {"int4": "int8", "int4-in-int8": "int8", "int4-in-fp8": "fp8"}  # activations: 8 bits
    activation = QuantSpec(stored.get(dtype, dtype))
    left = op == "constant left operand"
    edges = {Edge("op", int(left)): activation, Edge("op", int(not left)): spec}
    amax = 0.8 * float(np.abs(x).max())  # clips
    graph = graph_with(body, w)
    insert_qdq(graph, Plan("m", "tensorrt", edges), {"x": amax}, InsertOptions(weights_as))
    model = to_proto(graph)
    onnx.checker.check_model(model, full_check=True)
    found = dequantized(model, {"x": x})
    np.testing.assert_array_equal(found["x_dequantized"], fake_quant(x, amax, activation))
    np.testing.assert_array_equal(found["w_dequantized"], fake_quant(w, amax_of(w, spec), spec))


@pytest.mark.parametrize("dtype", ["fp8", "int4", "int4-in-fp8", "int16"])
def test_onnxs_reference_agrees_with_onnx_runtime(dtype):
    w = floats(96, 24)
    spec = QuantSpec(dtype, "channel", 1)
    graph = graph_with(OPS["MatMul"][0], w)
    insert_qdq(graph, Plan("m", "tensorrt", {Edge("op", 1): spec}), {})
    x = np.broadcast_to(np.eye(96, dtype=np.float32)[:3], (2, 3, 96)).copy()
    (y,) = ReferenceEvaluator(to_proto(graph)).run(None, {"x": x})
    np.testing.assert_array_equal(y[0], fake_quant(w, amax_of(w, spec), spec)[:3])


@pytest.mark.parametrize(
    "name", [s for s in SCHEMES if "tensorrt" in SCHEMES[s].targets and s != "nvfp4"]
)
@pytest.mark.parametrize("op", [op for op in OPS if op != "ConvTranspose"])
def test_the_optimized_model_of_every_scheme_computes_with_fake_quantized_inputs(op, name):
    body, x_shape, w_shape, _ = OPS[op]
    w, x = floats(*w_shape), floats(*x_shape, seed=5)
    graph = graph_with(body, w)
    options = PlanOptions(scheme=name, min_channels=1, scheme_for=())
    plan = tensorrt.plan(graph, options, "m")
    if plan.skipped:
        assert name in ("fp8", "w4afp8")  # a Conv without an FP8 kernel
        assert plan.skipped["op"].startswith("fp8-")
        return
    insert_qdq(graph, plan, {"x": 3.0})
    sources = {"x": x, "w": w}
    ranges = {"x": 3.0, "w": None}
    rounded = dict(sources)
    for edge, spec in plan.edges.items():
        tensor = "w" if (edge.input == 1) != (op == "constant left operand") else "x"
        values = sources[tensor]
        amax = amax_of(values, spec) if tensor == "w" else ranges["x"]
        rounded[tensor] = fake_quant(values, amax, spec)
    assert not np.array_equal(rounded["w"], w)
    (expected,) = runtime.session(to_proto(graph_with(body, rounded["w"]))).run(
        None, {"x": rounded["x"]}
    )
    (y,) = runtime.session(to_proto(graph)).run(None, {"x": x})
    # the same sums of the same values: only their order may differ
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["w8a8", "w4a16", "w4a8", "fp8", "w4afp8"])
def test_with_fp16_around_it_a_scheme_still_runs(name):
    body, x_shape, w_shape, _ = OPS["MatMul"]
    w, x = floats(*w_shape), floats(*x_shape, seed=5)
    graph = graph_with(body, w)
    plan = tensorrt.plan(graph, PlanOptions(scheme=name, min_channels=1), "m")
    insert_qdq(graph, plan, {"x": 3.0}, InsertOptions(scale_dtype="float16"))
    (expected,) = runtime.session(to_proto(graph)).run(None, {"x": x})
    to_half(graph)
    (y,) = runtime.session(to_proto(graph)).run(None, {"x": x})
    # sums of 96 products in FP16, whose steps are 2^-11 of the value
    np.testing.assert_allclose(y, expected, rtol=0, atol=96 * 2.0**-11 * np.abs(expected).max())


@pytest.mark.parametrize("concat", ["float", "share", "requant"])
@pytest.mark.parametrize("pattern", ["residual", "concat", "two readers"])
def test_nodes_of_several_schemes_run_in_one_model(pattern, concat):
    body = {
        "residual": "[a] t = Conv(x, w) r = Relu(t) [b] u = Conv(r, w) [add] v = Add(u, r) "
                    "[c] y = Conv(v, w)",
        "concat": "[a] t = Conv(x, w) [b] u = Conv(x, w) v = Concat<axis=2>(t, u) "
                  "[c] y = Conv(v, w)",
        "two readers": "[a] t = Conv(x, w) [b] u = Conv(t, w) [c] v = Conv(t, w) y = Add(u, v)",
    }[pattern]  # fmt: skip
    w = floats(16, 16, 1, 1)
    graph = graph_with(f"(float[1,16,8,8] x) => (float[n,c,h,i] y) {{{body}}}", w)
    options = PlanOptions(scheme="w4a8", scheme_for=("b=fp8", "c=w8a8"), concat=concat)
    plan = tensorrt.plan(graph, options, "m")
    assert {plan.edges[Edge(n, 1)].dtype for n in "abc"} == {"int4-in-int8", "fp8", "int8"}
    insert_qdq(graph, plan, dict.fromkeys(graph.tensors(), 6.0))
    model = to_proto(graph)
    onnx.checker.check_model(model, full_check=True)
    x = floats(1, 16, 8, 8, seed=3)
    (expected,) = runtime.session(model, optimize="none").run(None, {"x": x})
    (y,) = runtime.session(model).run(None, {"x": x})
    # another order of sums may move a value over the edge of a step: one step of few values
    assert np.mean(np.abs(y - expected) > 1e-4 * np.abs(expected).max()) < 0.01


def test_a_scheme_that_the_target_cannot_run_lists_those_that_it_can():
    with pytest.raises(PlanError, match=r"cannot run scheme 'w16a16'; choose one of w8a8, .*fp8"):
        scheme("w16a16", "tensorrt")
    with pytest.raises(PlanError, match=r"unknown scheme 'w2a2'; choose one of w8a8, .*fixed88"):
        scheme("w2a2", "onnxruntime")


def test_four_bit_weights_are_packed_only_where_nothing_multiplies_them_by_codes():
    assert scheme("w4a16", "tensorrt").weight == "int4"
    assert scheme("w4a8", "tensorrt").weight == "int4-in-int8"
    assert scheme("w4afp8", "tensorrt").weight == "int4-in-fp8"
    assert scheme("w4a8", "onnxruntime").weight == "int4"


@pytest.mark.parametrize(
    ("length", "asked", "size"),
    [(128, None, 64), (64, None, 32), (96, None, 32), (48, None, 16), (256, 128, 128),
     (128, 128, 64), (100, None, None), (16, None, None)],
)  # fmt: skip
def test_blocks_divide_the_sum_at_least_twice(length, asked, size):
    graph = graph_with(
        f"(float[4,{length}] x) => (float[4,32] y) {{[op] y = MatMul(x, w)}}", floats(length, 32)
    )
    options = PlanOptions(scheme="w4a16", block_size=asked)
    assert tensorrt.plan(graph, options, "m").edges[Edge("op", 1)].block_size == size


def test_a_block_size_that_no_weight_can_have_is_refused():
    graph = graph_with("(float[4,100] x) => (float[4,32] y) {[op] y = MatMul(x, w)}",
                       floats(100, 32))  # fmt: skip
    with pytest.raises(PlanError, match="--block-size 64: no weight has blocks"):
        plan_of(graph, PlanOptions(scheme="w4a16", block_size=64), "m")


def test_the_document_has_a_row_for_every_scheme():
    page = (Path(__file__).resolve().parents[1] / "docs" / "schemes.md").read_text("utf-8")
    text = page.partition("\n## ")[0]
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert rows == list(SCHEMES)
