"""Placement for ONNX Runtime, rule by rule: what its own optimizer makes of the planned Q/DQ."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from onnxq.calib.histogram import histogram_of
from onnxq.calib.max import Max
from onnxq.calib.observed import activation_specs, observed
from onnxq.calib.ranges import read_ranges
from onnxq.calib.stats import Stats
from onnxq.model.graph import to_proto
from onnxq.numerics import sqnr_db
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.passes.prepare import prepare
from onnxq.passes.quantize_biases import quantize_biases
from onnxq.run import runtime as ort
from onnxq.run.segments import restrict
from onnxq.spec import Edge, QuantSpec
from onnxq.targets import placement
from onnxq.targets.onnxruntime import KERNELS, MOVES, RULES
from onnxq.targets.options import PlanOptions

CODES = QuantSpec("uint8")
SHAPE = (1, 16, 8, 8)
X = "(float[1,16,8,8] x)"
PAD = "pads = [1, 1, 1, 1]"


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv(out=16, inner=16, kernel=3, seed=0):
    return floats(out, inner, kernel, kernel, seed=seed) / np.float32(kernel * inner**0.5)


WEIGHTS = {"w": conv(seed=1), "v": conv(seed=2), "u": conv(seed=3), "b": floats(16, seed=4)}
WEIGHTS |= {"codes": np.ones((16, 16, 3, 3), np.int8), "step": np.float32(0.01)}


@pytest.fixture
def planned(graph_of):
    """A prepared graph of ONNX text and its plan for ONNX Runtime."""

    def make(body, weights=None, opset=17, **options):
        graph = prepare(graph_of(body, WEIGHTS if weights is None else weights, opset))
        return graph, placement.plan(graph, PlanOptions(target="onnxruntime", **options), "hash")

    return make


@pytest.fixture
def fused(planned, run_graph):
    """A model of ONNX text as ONNX Runtime runs it quantized: how many nodes of each op.

    On the way its outputs are checked against those of the float model and of its Q/DQ unfused.
    """

    def make(body, weights=None, feeds=None, least_db=25, **options):
        graph, plan = planned(body, weights, **options)
        feeds = feeds or {"x": floats(*SHAPE, seed=9)}
        names = observed(graph, plan)
        values = dict(zip(names, run_graph(restrict(graph, names), feeds), strict=True))
        stats = Stats("hash", {n: histogram_of(v) for n, v in values.items()}, 1)
        ranges = read_ranges(stats, Max(), activation_specs(graph, plan), plan.tied)
        quantized = graph.copy()
        insert_qdq(quantized, plan, ranges.limits)
        quantize_biases(quantized)
        outputs = [t.name for t in graph.outputs]
        session = ort.session(to_proto(quantized))
        unfused = run_graph(quantized, feeds)
        for float_y, y, plain in zip(
            run_graph(graph, feeds), ort.run(session, outputs, feeds), unfused, strict=True
        ):
            # 8 bits a tensor give 30 to 40 dB, a few of them behind one another somewhat less
            assert sqnr_db(float_y, y) > least_db
            # a value on the border of two codes may fall on either side of it, here and there
            assert sqnr_db(plain, y) > least_db + 8
        return Counter(n.op_type for n in ort.optimized(to_proto(quantized))[0].graph.node)

    return make


CHAINS = {
    "Conv": ("{t = Conv(x, w, b) [last] y = Conv(t, v)}", {"QLinearConv": 1, "Conv": 1}),
    "Conv with Relu": (
        "{c = Conv(x, w, b) t = Relu(c) y = Sigmoid(t)}",
        {"QLinearConv": 1, "Relu": 0},
    ),
    "Conv with Clip from 0": (
        "{zero = Constant<value = float {0.0}>() six = Constant<value = float {6.0}>()"
        " c = Conv(x, w, b) t = Clip(c, zero, six) y = Sigmoid(t)}",
        {"QLinearConv": 1, "Clip": 0},
    ),
    "depthwise Conv": (
        "{c = Conv<group = 16>(x, p) y = Sigmoid(c)}",
        {"QLinearConv": 1},
    ),
    "Add": (
        f"{{c = Conv<{PAD}>(x, w, b) r = Relu(c) d = Conv<{PAD}>(r, v) s = Add(d, r)"
        f" t = Relu(s) e = Conv(t, u) y = Sigmoid(e)}}",
        {"QLinearConv": 3, "QLinearAdd": 1, "Add": 0, "Relu": 0},
    ),
    "SiLU": (
        "{c = Conv(x, w, b) s = Sigmoid(c) m = Mul(c, s) e = Conv(m, u) y = Relu(e)}",
        {"QLinearConv": 2, "QLinearSigmoid": 1, "QLinearMul": 1},
    ),
    "LeakyRelu": (
        "{c = Conv(x, w, b) s = LeakyRelu<alpha = 0.1>(c) e = Conv(s, u) y = Tanh(e)}",
        {"QLinearConv": 2, "QLinearLeakyRelu": 1},
    ),
    "AveragePool": (
        "{c = Conv(x, w) s = AveragePool<kernel_shape = [2, 2]>(c) e = Conv(s, u) y = Tanh(e)}",
        {"QLinearConv": 2, "QLinearAveragePool": 1},
    ),
    "GlobalAveragePool": (
        "{c = Conv(x, w) s = GlobalAveragePool(c) f = Flatten(s) y = Gemm(f, g, k)}",
        {"QLinearConv": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
    ),
    "Concat": (
        "{c = Conv(x, w) d = Conv(x, v) j = Concat<axis = 1>(c, d) e = Conv(j, z) y = Tanh(e)}",
        {"QLinearConv": 3, "QLinearConcat": 1, "Concat": 0},
    ),
    "MaxPool": (
        "{c = Conv(x, w) s = MaxPool<kernel_shape = [2, 2]>(c) e = Conv(s, u) y = Tanh(e)}",
        {"QLinearConv": 2, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "Resize": (
        "{none = Constant<value = float[0] {}>()"
        " twice = Constant<value = float[4] {1.0, 1.0, 2.0, 2.0}>()"
        " c = Conv(x, w) s = Resize<mode = \"nearest\">(c, none, twice) e = Conv(s, u)"
        " y = Tanh(e)}",
        {"QLinearConv": 2, "QuantizeLinear": 1, "DequantizeLinear": 1, "Resize": 1},
    ),
    "Split": (
        "{c = Conv(x, q) s, t = Split<axis = 1>(c) e = Conv(s, u) f = Conv(t, v) y = Add(e, f)}",
        {"QLinearConv": 3, "QuantizeLinear": 1, "DequantizeLinear": 2},
    ),
    "Transpose and Reshape": (
        "{shape = Constant<value = int64[2] {36, 16}>() c = Conv(x, w)"
        " s = Transpose<perm = [0, 2, 3, 1]>(c) f = Reshape(s, shape) y = Gemm(f, g, k)}",
        {"QLinearConv": 1, "QGemm": 1, "QuantizeLinear": 1, "DequantizeLinear": 0},
    ),
}  # fmt: skip
MORE = {
    "p": conv(16, 1, seed=5), "z": conv(16, 32, seed=6), "q": conv(32, 16, seed=7),
    "g": floats(16, 8, seed=8), "k": floats(8, seed=9),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_runs_on_codes(fused, name):
    body, wanted = CHAINS[name]
    out = "float[m,n] y" if "Gemm" in body else "float[n,c,i,j] y"
    ops = fused(f"{X} => ({out}) {body}", {**WEIGHTS, **MORE})
    assert {op: ops[op] for op in wanted} == wanted


def test_every_kernel_of_the_table_has_a_chain():
    bodies = " ".join(body for body, _ in CHAINS.values())
    assert [op for op in KERNELS if f"{op}(" not in bodies and f"{op}<" not in bodies] == []


SAME_VALUES = {
    "Transpose": "Transpose<perm = [0, 1, 3, 2]>(c)",
    "Reshape": "Reshape(c, square)",
    "Flatten": "Flatten(c)",
    "Squeeze": "Squeeze(c, zero)",
    "Unsqueeze": "Unsqueeze(c, zero)",
    "DepthToSpace": "DepthToSpace<blocksize = 2>(c)",
    "Expand": "Expand(c, shape)",
    "Tile": "Tile(c, ones)",
    "MaxPool": "MaxPool<kernel_shape = [2, 2]>(c)",
    "Slice": "Slice(c, zero, two, two)",
    "Resize": 'Resize<mode = "nearest">(c, none, none, double)',
    "Gather": "Gather<axis = 2>(c, two)",
}


@pytest.mark.parametrize("op", SAME_VALUES)
def test_an_op_that_moves_values_moves_codes(fused, op):
    constants = (
        "zero = Constant<value = int64[1] {0}>() two = Constant<value = int64[1] {2}>()"
        " shape = Constant<value = int64[4] {1, 16, 6, 6}>() none = Constant<value = float[0] {}>()"
        " ones = Constant<value = int64[4] {1, 1, 1, 1}>()"
        " double = Constant<value = int64[4] {1, 16, 12, 12}>()"
        " square = Constant<value = int64[2] {96, 6}>()"
        " back = Constant<value = int64[2] {-1, 4}>() "
    )
    body = f"c = Conv(x, w) s = {SAME_VALUES[op]} f = Reshape(s, back) y = Gemm(f, g, k)"
    ops = fused(
        f"{X} => (float[m,n] y) {{{constants} {body}}}",
        {**WEIGHTS, "g": floats(4, 8), "k": floats(8)},
        least_db=20,
    )
    wanted = {"QLinearConv": 1, "QGemm": 1, "QuantizeLinear": 1, "DequantizeLinear": 0}
    assert {name: ops[name] for name in wanted} == wanted


def test_every_op_of_the_table_that_moves_values_has_an_example():
    assert {*SAME_VALUES, "Split"} == set(MOVES)


FLOAT = {
    "deconv": ("{[op] t = ConvTranspose(x, w) y = Sigmoid(t)}", "x"),
    "quantized-weight": (
        "{d = DequantizeLinear(codes, step) [op] t = Conv(x, d) y = Sigmoid(t)}",
        "x",
    ),
    "computed-weight": ("{[op] t = Conv(x, x2) y = Sigmoid(t)}", "x, float[16,16,3,3] x2"),
    "expectation": ("{s = Softmax<axis = 1>(x) [op] t = Conv(s, w) y = Sigmoid(t)}", "x"),
    "writes-output": ("{[op] y = Conv(x, w)}", "x"),
}  # fmt: skip


@pytest.mark.parametrize("rule", FLOAT)
def test_a_weighted_op_stays_float_with_its_reason(planned, rule):
    body, inputs = FLOAT[rule]
    _, plan = planned(f"(float[1,16,8,8] {inputs}) => (float[n,c,i,j] y) {body}")
    assert plan.skipped["op"].startswith(f"{rule}: ")
    assert "op" not in plan.nodes


def test_a_gemm_with_factors_stays_float(planned):
    body = "(float[4,16] x) => (float[4,16] y) {[op] y = Gemm<alpha = 0.5>(x, w, b)}"
    _, plan = planned(body, {"w": floats(16, 16), "b": floats(16)})
    assert plan.skipped["op"].startswith("scaled-gemm: ")


def test_a_weighted_op_of_another_type_stays_float(planned):
    _, plan = planned("(double[4,16] x) => (double[4,16] y) {[op] y = MatMul(x, w)}",
                      {"w": np.eye(16)})  # fmt: skip
    assert plan.skipped["op"].startswith("not-float32: ")


def test_every_rule_of_the_table_has_an_example():
    assert {r.name for r in RULES} == {*FLOAT, "scaled-gemm", "not-float32"} - {"writes-output"}


def test_a_product_writes_float_where_a_float_op_reads_it(fused):
    ops = fused(
        "(float[1,9,16] x) => (float[1,9,16] y) {t = MatMul(x, w) s = Softmax(t) y = MatMul(s, v)}",
        {"w": floats(16, 16), "v": floats(16, 16, seed=1)},
        {"x": floats(1, 9, 16, seed=2)},
    )
    assert ops["MatMulIntegerToFloat"] == 2
    assert ops["Softmax"] == 1


def test_a_product_writes_codes_where_only_codes_are_read(fused):
    ops = fused(
        "(float[1,9,16] x) => (float[1,9,16] y) {t = MatMul(x, w) y = MatMul(t, v)}",
        {"w": floats(16, 16), "v": floats(16, 16, seed=1)},
        {"x": floats(1, 9, 16, seed=2)},
    )
    assert (ops["QLinearMatMul"], ops["MatMulIntegerToFloat"]) == (1, 1)


def test_a_float_tensor_is_quantized_to_be_added_to_codes(fused, planned):
    body = (
        f"{X} => (float[1,16,8,8] y) {{c = Conv<{PAD}>(x, w) t = Tanh(x) [add] a = Add(c, t)"
        f" d = Conv<{PAD}>(a, v) y = Relu(d)}}"
    )
    assert planned(body)[1].rules["add"] == "kernel-Add"
    assert fused(body)["QLinearAdd"] == 1


def test_a_sum_of_float_tensors_stays_float(planned):
    _, plan = planned(
        f"{X} => (float[1,16,8,8] y) {{t = Tanh(x) [add] a = Add(x, t) d = Conv<{PAD}>(a, v)"
        " y = Relu(d)}"
    )
    assert "add" not in plan.nodes


def test_the_end_of_a_detector_stays_float(planned):
    """A Concat of boxes and scores that nothing reads in codes would give both one scale."""
    _, plan = planned(
        f"{X} => (float[1,32,6,6] y) {{[box] b1 = Conv(x, w) [score] s1 = Conv(x, v)"
        " [squash] s = Sigmoid(s1) [join] y = Concat<axis = 1>(b1, s)}"
    )
    assert plan.rules["join"] == plan.rules["squash"] == "reads-codes"
    assert [e for e in plan.edges if e.node == "join"] == [Edge("join", 0)]


def test_activations_are_uint8_and_weights_int8(planned):
    _, plan = planned(f"{X} => (float[1,16,6,6] y) {{[op] t = Conv(x, w) y = Sigmoid(t)}}")
    assert plan.edges[Edge("op", 0)] == CODES
    assert plan.edges[Edge("op", 1)] == QuantSpec("int8", "channel", 0)


def test_what_is_skipped_reads_no_codes_and_ends_the_chain(planned):
    body = f"{X} => (float[n,c,i,j] y) {{[a] s = Conv(x, w) [b] t = Conv(s, v) y = Sigmoid(t)}}"
    _, plan = planned(body, skip=("b",))
    assert plan.skipped["b"] == "--skip b"
    assert plan.nodes == ["a"]


def test_concats_and_sums_stay_float_if_asked(planned):
    body = CHAINS["Concat"][0].replace("j = Concat", "[join] j = Concat")
    model = f"{X} => (float[n,c,i,j] y) {body}".replace("float[n,c,i,j] y", "float[n,c,k,l] y")
    assert planned(model, {**WEIGHTS, **MORE}, concat="float")[1].rules["join"] == "reads-codes"
    shared = planned(model, {**WEIGHTS, **MORE}, concat="share")[1]
    assert shared.tied == (("c", "d", "j"),)
    assert planned(model, {**WEIGHTS, **MORE})[1].tied == ()
    body = CHAINS["Add"][0].replace("s = Add", "[add] s = Add")
    _, plan = planned(f"{X} => (float[n,c,k,l] y) {body}", residual="float")
    assert plan.rules["add"] == "reads-codes"


@pytest.mark.parametrize("scheme", ["w8a16", "w4a16", "w4a8", "fp8"])
def test_other_schemes_quantize_the_inputs_of_weighted_ops(planned, scheme):
    body = f"{X} => (float[n,c,i,j] y) {{[a] s = Conv(x, w) [b] t = Conv(s, v) y = Sigmoid(t)}}"
    _, plan = planned(body, scheme=scheme)
    assert plan.target == "onnxruntime"
    assert plan.nodes == ["a", "b"]


@pytest.mark.parametrize("scheme", ["w16a16", "fixed88"])
def test_a_scheme_of_fixed_point_hardware_quantizes_every_tensor(planned, scheme):
    body = f"{X} => (float[n,c,i,j] y) {{[a] s = Conv(x, w) [b] t = Tanh(s) [c] y = Exp(t)}}"
    _, plan = planned(body, scheme=scheme)
    assert plan.nodes == ["a", "b", "c"]
    assert plan.rules["c"] == "fixed-point"


@pytest.mark.parametrize("scheme", ["w16a16", "fixed88", "w8aint16"])
def test_sixteen_bits_know_no_limits_of_tensorrt(planned, scheme):
    body = f"{X} => (float[n,c,i,j] y) {{[a] s = Conv(x, w) [b] t = Conv(s, v) y = Sigmoid(t)}}"
    _, plan = planned(body, scheme=scheme, min_channels=64)
    assert {"a", "b"} <= plan.by_node.keys()
    assert all(Edge(node, 1) in plan.edges for node in "ab")
    assert not plan.skipped


def test_a_node_may_have_another_scheme_than_the_rest(planned):
    body = f"{X} => (float[n,c,i,j] y) {{[a] s = Conv(x, w) [b] t = Conv(s, v) y = Sigmoid(t)}}"
    _, plan = planned(body, scheme_for=("b=w8a16",))
    assert plan.rules == {"a": "kernel-Conv", "b": "weighted-Conv"}
    assert Edge("b", 0) in plan.edges  # through Q/DQ, so that the Conv before it runs on codes
