"""A Q/DQ model computes what fake_quant on its activations and weights gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from ml_dtypes import bfloat16

from onnxq.errors import PlanError
from onnxq.model.graph import to_proto
from onnxq.numerics import amax_of, dequantize, fake_quant, quantize, scale_of
from onnxq.passes.bias_room import DEAD_CHANNEL, ROOM
from onnxq.passes.insert_qdq import Codes, InsertOptions, insert_qdq, weight_scale
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec

TENSOR = QuantSpec()
CONV = "(float[N,4,6,6] x) => (float[N,8,4,4] y) {[conv] y = Conv(x, w, b)}"


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def channel(axis):
    return QuantSpec("int8", "channel", axis)


def plan(edges, **fields):
    return Plan("m", "tensorrt", {Edge(n, i): spec for (n, i), spec in edges.items()}, **fields)


def checked(graph):
    onnx.checker.check_model(to_proto(graph), full_check=True)
    return graph


def ops(graph):
    return [node.op for node in graph.nodes]


def by_op(graph, op):
    return [node for node in graph.nodes if node.op == op]


# name: body, shape of x, weights, plan, ranges
MODELS = {
    "Conv": (
        CONV, (2, 4, 6, 6), {"w": floats(8, 4, 3, 3), "b": floats(8, seed=1)},
        {("conv", 0): TENSOR, ("conv", 1): channel(0)},
    ),
    "Conv per tensor": (
        CONV, (2, 4, 6, 6), {"w": floats(8, 4, 3, 3), "b": floats(8, seed=1)},
        {("conv", 0): TENSOR, ("conv", 1): TENSOR},
    ),
    "depthwise Conv": (
        "(float[N,4,6,6] x) => (float[N,4,4,4] y) {[conv] y = Conv<group = 4>(x, w)}",
        (2, 4, 6, 6), {"w": floats(4, 1, 3, 3)},
        {("conv", 0): TENSOR, ("conv", 1): channel(0)},
    ),
    "ConvTranspose": (
        "(float[N,4,6,6] x) => (float[N,8,12,12] y) "
        "{[up] y = ConvTranspose<strides = [2, 2]>(x, w)}",
        (2, 4, 6, 6), {"w": floats(4, 8, 2, 2)},
        {("up", 0): TENSOR, ("up", 1): channel(1)},
    ),
    "Gemm": (
        "(float[N,16] x) => (float[N,8] y) {[fc] y = Gemm(x, w, b)}",
        (5, 16), {"w": floats(16, 8), "b": floats(8, seed=1)},
        {("fc", 0): TENSOR, ("fc", 1): channel(1)},
    ),
    "Gemm transB": (
        "(float[N,16] x) => (float[N,8] y) {[fc] y = Gemm<transB = 1>(x, w, b)}",
        (5, 16), {"w": floats(8, 16), "b": floats(8, seed=1)},
        {("fc", 0): TENSOR, ("fc", 1): channel(0)},
    ),
    "MatMul": (
        "(float[N,3,16] x) => (float[N,3,8] y) {[mm] y = MatMul(x, w)}",
        (5, 3, 16), {"w": floats(16, 8)},
        {("mm", 0): TENSOR, ("mm", 1): channel(1)},
    ),
    "MatMul with a batched weight": (
        "(float[2,3,16] x) => (float[2,3,8] y) {[mm] y = MatMul(x, w)}",
        (2, 3, 16), {"w": floats(2, 16, 8)},
        {("mm", 0): TENSOR, ("mm", 1): channel(2)},
    ),
    "MatMul of two activations": (
        "(float[N,3,16] x) => (float[N,3,3] y) "
        "{k = Transpose<perm = [0, 2, 1]>(x) [mm] y = MatMul(x, k)}",
        (5, 3, 16), {},
        {("mm", 0): TENSOR, ("mm", 1): TENSOR},
    ),
}  # fmt: skip


def amaxes(x):
    return {"x": 0.8 * float(np.abs(x).max()), "k": 0.7 * float(np.abs(x).max())}  # both clip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("weights_as", ["int", "float"])
def test_the_model_computes_with_fake_quantized_inputs(graph_of, run_graph, name, weights_as):
    body, shape, weights, edges = MODELS[name]
    x = floats(*shape, seed=7)
    quantized, fake = graph_of(body, weights), graph_of(body, weights)
    chosen = plan(edges)
    done = insert_qdq(quantized, chosen, amaxes(x), InsertOptions(weights_as))
    assert done == len(edges)
    expected = by_hand(fake, chosen, x, run_graph)
    (y,) = run_graph(checked(quantized), {"x": x})
    # the same sums of the same values: only their order may differ
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    (before,) = run_graph(graph_of(body, weights), {"x": x})
    assert np.abs(y - before).max() > 1e-3  # and quantizing is not doing nothing


def by_hand(graph, chosen, x, run_graph):
    """The float model's output with every planned tensor replaced by its fake_quant."""
    feeds = {"x": x}
    (node,) = [n for n in graph.nodes if n.op != "Transpose"]
    sources = {"x": x, "k": x.swapaxes(-1, -2)}
    graph.nodes = [node]
    node.inputs = [t.copy() for t in node.inputs]
    for edge, spec in chosen.edges.items():
        tensor = node.inputs[edge.input]
        if tensor.name in sources:
            values = fake_quant(sources[tensor.name], amaxes(x)[tensor.name], spec)
            feeds[f"in{edge.input}"] = values
            tensor.name, tensor.dtype, tensor.shape = f"in{edge.input}", np.float32, None
        else:
            tensor.values = fake_quant(tensor.values, amax_of(tensor.values, spec), spec)
    graph.inputs = [t for t in node.inputs if t.name in feeds]
    feeds = {t.name: feeds[t.name] for t in graph.inputs}
    return run_graph(graph, feeds)[0]


def test_integer_and_float_weights_give_identical_outputs(graph_of, run_graph):
    body, shape, weights, edges = MODELS["Conv"]
    outputs = []
    for weights_as in ("int", "float"):
        graph = graph_of(body, weights)
        insert_qdq(graph, plan(edges), {"x": 2.0}, InsertOptions(weights_as))
        outputs += run_graph(graph, {"x": floats(*shape)})
    np.testing.assert_array_equal(*outputs)


def test_integer_weights_are_stored_as_int8_and_float_weights_keep_their_values(graph_of):
    body, _, weights, edges = MODELS["Conv"]
    stored = graph_of(body, weights)
    insert_qdq(stored, plan(edges), {"x": 2.0})
    assert sorted(ops(stored)) == ["Conv", "DequantizeLinear", "DequantizeLinear", "QuantizeLinear"]
    codes = stored.tensors()["w_quantized"].values
    spec = edges["conv", 1]
    np.testing.assert_array_equal(
        codes, quantize(weights["w"], scale_of(amax_of(weights["w"], spec), spec), spec)
    )
    assert codes.dtype == np.int8
    assert "w" not in stored.tensors()
    kept = graph_of(body, weights)
    insert_qdq(kept, plan(edges), {"x": 2.0}, InsertOptions("float"))
    np.testing.assert_array_equal(kept.tensors()["w"].values, weights["w"])


def test_every_scale_a_channel_comes_with_its_axis(graph_of):
    for name, (body, _, weights, edges) in MODELS.items():
        graph = graph_of(body, weights)
        insert_qdq(graph, plan(edges), {"x": 1.0, "k": 1.0}, InsertOptions("float"))
        axes = {s.axis for s in edges.values()} - {None}
        for node in by_op(graph, "QuantizeLinear") + by_op(graph, "DequantizeLinear"):
            if node.inputs[1].shape != ():
                assert node.attrs["axis"] in axes, name


def test_the_bias_stays_float(graph_of):
    body, _, weights, edges = MODELS["Conv"]
    graph = graph_of(body, weights)
    insert_qdq(graph, plan(edges), {"x": 1.0})
    (conv,) = by_op(graph, "Conv")
    np.testing.assert_array_equal(conv.inputs[2].values, weights["b"])


def test_a_tensor_with_several_readers_is_quantized_once(graph_of):
    graph = graph_of(
        """(float[N,4,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] z) {
            [a] p = Conv(x, v) [b] q = Conv(x, w) y = Add(p, q) z = Neg(x)
        }""",
        {"v": floats(4, 4, 1, 1), "w": floats(4, 4, 1, 1, seed=1)},
    )
    insert_qdq(graph, plan({("a", 0): TENSOR, ("b", 0): TENSOR}), {"x": 1.0})
    (pair,) = by_op(graph, "QuantizeLinear")
    assert pair.name == "x_QuantizeLinear"
    assert [n.name for n in graph.tensors()["x_dequantized"].outputs] == ["a", "b"]
    assert sorted(n.op for n in graph.tensors()["x"].outputs) == ["Neg", "QuantizeLinear"]


def test_two_specs_on_one_tensor_get_two_pairs_with_names_of_their_own(graph_of, run_graph):
    graph = graph_of(
        """(float[N,8] x) => (float[N,8] y) {
            [a] p = Gemm(x, w) [b] q = Gemm<transB = 1>(x, w) [c] r = MatMul(x, w)
            s = Add(p, q) y = Add(s, r)
        }""",
        {"w": floats(8, 8)},
    )
    edges = {(n, 0): TENSOR for n in "abc"}
    edges |= {("a", 1): channel(1), ("b", 1): channel(0), ("c", 1): TENSOR}
    x = floats(3, 8, seed=1)
    insert_qdq(graph, plan(edges), {"x": 2.0})
    (y,) = run_graph(checked(graph), {"x": x})
    w = {s: fake_quant(floats(8, 8), amax_of(floats(8, 8), s), s) for s in edges.values()}
    xq = fake_quant(x, 2.0, TENSOR)
    # the same sums of the same values: only their order may differ
    expected = xq @ w[channel(1)] + xq @ w[channel(0)].T + xq @ w[TENSOR]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    names = [n.name for n in graph.nodes if n.name]
    assert len(names) == len(set(names))


def test_new_names_step_aside_for_names_that_are_there(graph_of):
    graph = graph_of(
        """(float[N,8] x) => (float[N,8] y) {
            x_scale = Neg(x) [x_QuantizeLinear] a = Add(x, x_scale) [fc] b = MatMul(x, w)
            y = Add(a, b)
        }""",
        {"w": floats(8, 8)},
    )
    insert_qdq(graph, plan({("fc", 0): TENSOR}), {"x": 1.0})
    checked(graph)
    assert "x_1_scale" in graph.tensors()


def test_a_tensor_takes_the_range_of_its_source(graph_of):
    graph = graph_of(
        "(float[N,8] x) => (float[8,N] y) {t = Transpose(x) [mm] y = MatMul(w, t)}",
        {"w": floats(8, 8)},
    )
    insert_qdq(graph, plan({("mm", 1): TENSOR}, source={"t": "x"}), {"x": 127.0})
    assert graph.tensors()["t_scale"].values == 1


def test_a_weight_range_may_be_chosen(graph_of):
    body, _, weights, edges = MODELS["Conv"]
    graph = graph_of(body, weights)
    half = InsertOptions(weight_range=lambda w, spec: amax_of(w, spec) / 2)
    insert_qdq(graph, plan(edges), {"x": 1.0}, half)
    np.testing.assert_array_equal(
        graph.tensors()["w_scale"].values, scale_of(amax_of(weights["w"], channel(0)) / 2, TENSOR)
    )


def test_a_dead_channel_gets_a_scale_that_its_bias_can_be_held_in(graph_of):
    body, _, weights, edges = MODELS["Conv"]
    w = weights["w"].copy()
    w[3] = 1e-30
    w[5] = 0
    graph = graph_of(body, {**weights, "w": w})
    insert_qdq(graph, plan(edges), {"x": 1.0})
    scale = graph.tensors()["w_scale"].values
    assert scale[3] == scale[5] == np.float32(DEAD_CHANNEL * np.abs(w).max() / 127)
    assert not graph.tensors()["w_quantized"].values[[3, 5]].any()


def test_a_small_channel_keeps_its_own_scale(graph_of):
    body, _, weights, edges = MODELS["Conv"]
    w = weights["w"] * np.float32(10.0) ** -np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)
    graph = graph_of(body, {**weights, "w": w, "b": np.zeros(8, np.float32)})
    insert_qdq(graph, plan(edges), {"x": 1.0})
    np.testing.assert_array_equal(
        graph.tensors()["w_scale"].values, scale_of(amax_of(w, channel(0)), channel(0))
    )


@pytest.mark.parametrize("weights_as", ["int", "float"])
def test_a_channel_that_is_nothing_against_its_bias_leaves_room_for_it(graph_of, weights_as):
    body, _, weights, edges = MODELS["Conv"]
    w, b = weights["w"].copy(), weights["b"].copy()
    w[3], b[3] = w[3] * 1e-9, 3.0
    graph = graph_of(body, {**weights, "w": w, "b": b})
    scale = scale_of(amax_of(w, channel(0)), channel(0))
    codes = Codes(scale, quantize(w, scale, channel(0)))
    options = InsertOptions(weights_as, codes={("w", channel(0)): codes})
    insert_qdq(graph, plan(edges), {"x": 1.0}, options)
    found = graph.tensors()["w_scale"].values
    steps = b / (found.astype(np.float64) * graph.tensors()["x_scale"].values)
    assert np.abs(steps).max() <= ROOM * (1 + 2**-23)  # the scale is rounded to float32
    others = np.arange(8) != 3
    np.testing.assert_array_equal(found[others], scale[others])
    stored = "w_quantized" if weights_as == "int" else "w_rounded"
    values = graph.tensors()[stored].values.astype(np.float64)
    values *= found.reshape(8, 1, 1, 1) if weights_as == "int" else 1
    assert np.abs(values[3] - w[3]).max() <= found[3] / 2 * (1 + 2**-20)  # half a step, in float32


@pytest.mark.parametrize("scale_dtype", ["float16", "bfloat16"])
def test_scales_can_be_rounded_for_a_graph_that_becomes_half(graph_of, scale_dtype):
    body, _, weights, edges = MODELS["Conv"]
    graph = graph_of(body, weights)
    insert_qdq(graph, plan(edges), {"x": 1.0}, InsertOptions(scale_dtype=scale_dtype))
    w, spec = weights["w"], channel(0)
    scale = scale_of(amax_of(w, spec), spec, scale_dtype)
    assert graph.tensors()["x_scale"].values == scale_of(1.0, TENSOR, scale_dtype)
    np.testing.assert_array_equal(graph.tensors()["w_scale"].values, scale)
    np.testing.assert_array_equal(graph.tensors()["w_quantized"].values, quantize(w, scale, spec))


@pytest.mark.parametrize("weights_as", ["int", "float"])
def test_a_float16_model_gets_float16_scales(graph_of, run_graph, weights_as):
    w, b = floats(8, 4, 3, 3).astype(np.float16), floats(8, seed=1).astype(np.float16)
    body, _, _, edges = MODELS["Conv"]
    graph = graph_of(body.replace("float[", "float16["), {"w": w, "b": b}, opset=19)
    insert_qdq(graph, plan(edges), {"x": 2.0}, InsertOptions(weights_as))
    tensors = checked(graph).tensors()
    assert {tensors[n].dtype for n in ("x_scale", "w_scale", "x_dequantized")} == {
        np.dtype(np.float16)
    }
    x = floats(2, 4, 6, 6, seed=2).astype(np.float16)
    scale = scale_of(2.0, TENSOR, "float16")
    xq = dequantize(quantize(x, scale, TENSOR), scale, TENSOR).astype(np.float16)
    w_scale = scale_of(amax_of(w, channel(0)), channel(0), "float16")
    wq = dequantize(quantize(w, w_scale, channel(0)), w_scale, channel(0)).astype(np.float16)
    graph.outputs = [tensors["x_dequantized"], tensors["w_dequantized"]]
    seen = run_graph(graph, {"x": x})
    np.testing.assert_array_equal(seen[0], xq)
    np.testing.assert_array_equal(seen[1], wq)


def test_a_float16_model_below_opset_19_is_refused(graph_of):
    body, _, weights, edges = MODELS["Conv"]
    weights = {n: w.astype(np.float16) for n, w in weights.items()}
    graph = graph_of(body.replace("float[", "float16["), weights, opset=17)
    with pytest.raises(PlanError, match="int8 on float16 needs opset 19, the graph has 17"):
        insert_qdq(graph, plan(edges), {"x": 2.0})


PROBLEMS = {
    "no such node": ({("nope", 0): TENSOR}, "input 0 of 'nope', which this graph does not have"),
    "no such input": ({("conv", 9): TENSOR}, "input 9 of 'conv', which this graph does not"),
    "no range": ({("conv", 0): TENSOR}, "no range for tensor 'x'; run \"?'?onnxq calibrate"),
    "channels of an activation": ({("conv", 0): channel(1)}, "one scale a tensor"),
    "no such axis": ({("conv", 1): channel(4)}, r"no axis 4, its shape is \(8, 4, 3, 3\)"),
    "an asymmetric weight": ({("conv", 1): QuantSpec("uint8")}, "weights are symmetric"),
    "a type of a later opset": ({("conv", 1): QuantSpec("int16")}, "int16 on .* needs opset 21"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_plan_that_does_not_fit_is_refused_and_the_graph_left_alone(graph_of, name):
    body, _, weights, edges = MODELS["Conv"]
    wrong, message = PROBLEMS[name]
    graph = graph_of(body, weights)
    before = to_proto(graph).SerializeToString()
    with pytest.raises(PlanError, match=message):
        insert_qdq(graph, plan({("conv", 1): edges["conv", 1], **wrong}), {})
    assert to_proto(graph).SerializeToString() == before


@pytest.mark.parametrize(("amax", "message"), [(0.0, "zero in every sample"), (np.nan, "'x': a r")])
def test_a_range_without_a_scale_is_refused(graph_of, amax, message):
    body, _, weights, edges = MODELS["Conv"]
    with pytest.raises(PlanError, match=message):
        insert_qdq(graph_of(body, weights), plan(edges), {"x": amax})


@pytest.mark.parametrize("dtype", ["double", "int32"])
def test_data_that_q_does_not_take_is_refused(graph_of, dtype):
    graph = graph_of(f"({dtype}[N,8] x) => ({dtype}[N,N] y) {{[mm] y = MatMul(x, x)}}")
    with pytest.raises(PlanError, match=r"input 0 of 'mm', tensor 'x': its type .* is not float32"):
        insert_qdq(graph, plan({("mm", 0): TENSOR}), {"x": 1.0})


def test_a_deep_graph_does_not_overflow_the_stack(graph_of):
    depth = 3000
    chain = " ".join(f"a{i + 1} = Neg(a{i})" for i in range(depth))
    body = f"(float[N,8] a0) => (float[N,8] y) {{{chain} [fc] y = MatMul(a{depth}, w)}}"
    graph = graph_of(body, {"w": floats(8, 8)})
    insert_qdq(graph, plan({("fc", 0): TENSOR}), {f"a{depth}": 1.0})
    assert len(graph.nodes) == depth + 3


@pytest.mark.parametrize("dtype", [np.float16, bfloat16])
def test_scales_of_a_half_weight_are_values_of_its_own_type(rng, dtype):
    weight = rng.standard_normal((4, 8)).astype(dtype)
    scale = weight_scale(weight, QuantSpec("int8", "channel", 0), InsertOptions())
    np.testing.assert_array_equal(scale, scale.astype(dtype).astype(scale.dtype))
