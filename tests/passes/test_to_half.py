"""Half types are consistent, numbers stay near FP32's, and what must stay FP32 does."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnxq.errors import ModelError
from onnxq.model.graph import to_proto
from onnxq.passes.insert_qdq import InsertOptions, insert_qdq
from onnxq.passes.prepare import prepare
from onnxq.passes.to_half import HalfOptions, reasons_to_keep, to_half
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec

FP32, FP16, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
# Every value is rounded to FP16, by 2^-11 of it, and the sums here are short.
FP16_CLOSE = {"rtol": 5e-3, "atol": 5e-3}


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def square(n, seed=0):
    return floats(n, n, seed=seed) / np.float32(n)


def types(graph):
    """Element type of every tensor, by ONNX's own inference; the model is valid as well."""
    model = to_proto(graph)
    onnx.checker.check_model(model, full_check=True)
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    found = {t.name: t.data_type for t in inferred.initializer}
    for v in (*inferred.input, *inferred.value_info, *inferred.output):
        found[v.name] = v.type.tensor_type.elem_type
    return found


def computes_in(graph, name):
    """Types of the floating point tensors that a node reads and writes."""
    found = types(graph)
    (node,) = [n for n in graph.nodes if n.name == name]
    used = {found[t.name] for t in (*node.inputs, *node.outputs) if not t.is_empty()}
    return used & {FP32, FP16, BF16}


def ops(graph):
    return [n.op for n in graph.nodes]


@pytest.fixture
def prepared(graph_of):
    def make(body, weights=None, opset=19):
        return prepare(graph_of(body, weights, opset))

    return make


MLP = """(float[2,8] x) => (float[2,8] y) {
    [one] a = MatMul(x, v) [act] b = Relu(a) [two] y = MatMul(b, w)
}"""
MLP_WEIGHTS = {"v": square(8), "w": square(8, 1)}


def test_a_float_model_runs_in_fp16_and_its_ends_stay_float32(prepared, run_graph):
    graph = prepared(MLP, MLP_WEIGHTS)
    x = floats(2, 8)
    (before,) = run_graph(graph, {"x": x})
    assert to_half(graph) == 3
    assert ops(graph) == ["Cast", "MatMul", "Relu", "MatMul", "Cast"]
    for name in ("one", "act", "two"):
        assert computes_in(graph, name) == {FP16}
    assert [types(graph)[n] for n in "xy"] == [FP32, FP32]
    (after,) = run_graph(graph, {"x": x})
    assert after.dtype == np.float32
    np.testing.assert_allclose(after, before, **FP16_CLOSE)
    assert np.abs(after - before).max() > 0


def test_a_second_run_changes_nothing(prepared):
    graph = prepared(MLP, MLP_WEIGHTS)
    to_half(graph)
    before = to_proto(graph).SerializeToString()
    again = prepared(MLP, MLP_WEIGHTS)
    to_half(again)
    assert to_proto(again).SerializeToString() == before


def test_inputs_and_outputs_become_half_if_asked(prepared, run_graph):
    graph = prepared(MLP, MLP_WEIGHTS)
    (before,) = run_graph(graph, {"x": floats(2, 8)})
    to_half(graph, HalfOptions(io="half"))
    assert ops(graph) == ["MatMul", "Relu", "MatMul"]
    (after,) = run_graph(graph, {"x": floats(2, 8).astype(np.float16)})
    assert after.dtype == np.float16
    np.testing.assert_allclose(after, before, **FP16_CLOSE)


def test_an_output_of_a_kept_node_becomes_half_if_asked(prepared):
    graph = prepared("(float[2,8] x) => (float[2,8] y) {[s] y = Softmax(x)}")
    to_half(graph, HalfOptions(io="half"))
    found = types(graph)
    assert (found["x"], found["y"]) == (FP16, FP16)
    assert computes_in(graph, "s") == {FP32}


def test_sensitive_ops_stay_float32_with_one_cast_a_border(prepared, run_graph):
    graph = prepared(
        """(float[2,8] x) => (float[2,8] y, float[2,8] z) {
            [one] a = MatMul(x, v) [soft] b = Softmax(a) [log] c = LogSoftmax(a)
            [two] y = MatMul(b, v) [three] d = MatMul(b, v) z = Add(c, d)
        }""",
        MLP_WEIGHTS,
    )
    before = run_graph(graph, {"x": floats(2, 8)})
    to_half(graph)
    assert computes_in(graph, "soft") == {FP32}
    assert computes_in(graph, "log") == {FP32}
    assert computes_in(graph, "two") == {FP16}
    # x; a to float32 once; b to half once; c to half; y and z to float32
    assert ops(graph).count("Cast") == 6
    for got, expected in zip(run_graph(graph, {"x": floats(2, 8)}), before, strict=True):
        np.testing.assert_allclose(got, expected, **FP16_CLOSE)


def test_nodes_can_be_kept_by_name(prepared, run_graph):
    graph = prepared(MLP, MLP_WEIGHTS)
    x = floats(2, 8)
    (before,) = run_graph(graph, {"x": x})
    options = HalfOptions(keep={"act": "it is large"})
    assert reasons_to_keep(graph, options) == {"act": "it is large"}
    assert to_half(graph, options) == 2
    assert computes_in(graph, "act") == {FP32}
    np.testing.assert_allclose(run_graph(graph, {"x": x})[0], before, **FP16_CLOSE)


def test_a_residual_around_a_kept_node_has_one_type(prepared, run_graph):
    graph = prepared(
        """(float[2,8] x) => (float[2,8] y) {
            [one] a = MatMul(x, v) [big] b = Mul(a, k) [add] c = Add(a, b) [two] y = MatMul(c, w)
        }""",
        {**MLP_WEIGHTS, "k": floats(8)},
    )
    (before,) = run_graph(graph, {"x": floats(2, 8)})
    to_half(graph, HalfOptions(keep={"big": "-"}))
    assert computes_in(graph, "big") == {FP32}
    assert computes_in(graph, "add") == {FP16}
    np.testing.assert_allclose(run_graph(graph, {"x": floats(2, 8)})[0], before, **FP16_CLOSE)


def test_a_graph_input_read_by_both_kinds_is_cast_once(prepared):
    graph = prepared(
        """(float[2,8] x) => (float[2,8] y, float[2,8] z, float[2,8] k) {
            [one] y = MatMul(x, v) [two] z = MatMul(x, w) [soft] k = Softmax(x)
        }""",
        MLP_WEIGHTS,
    )
    to_half(graph)
    assert sorted(n.op for n in graph.tensors()["x"].outputs) == ["Cast", "Softmax"]
    assert computes_in(graph, "soft") == {FP32}
    assert computes_in(graph, "one") == computes_in(graph, "two") == {FP16}


def test_a_weight_read_by_both_kinds_is_stored_in_both_types(prepared):
    graph = prepared(
        """(float[2,8] x) => (float[2,8] y, float[2,8] z) {
            [one] y = MatMul(x, v) [two] z = MatMul(x, v)
        }""",
        {"v": square(8)},
    )
    to_half(graph, HalfOptions(keep={"two": "-"}))
    assert computes_in(graph, "one") == {FP16}
    assert computes_in(graph, "two") == {FP32}


def test_an_output_that_is_read_inside_too_keeps_its_type_and_name(prepared, run_graph):
    graph = prepared(
        """(float[2,8] x) => (float[2,8] y, float[2,8] z) {
            [one] y = MatMul(x, v) [two] z = MatMul(y, w)
        }""",
        MLP_WEIGHTS,
    )
    before = run_graph(graph, {"x": floats(2, 8)})
    to_half(graph)
    found = types(graph)
    assert (found["y"], found["z"]) == (FP32, FP32)
    assert computes_in(graph, "two") == {FP16}
    for got, expected in zip(run_graph(graph, {"x": floats(2, 8)}), before, strict=True):
        np.testing.assert_allclose(got, expected, **FP16_CLOSE)


def test_a_constant_beyond_fp16_keeps_its_node_float32(prepared, run_graph):
    graph = prepared(
        "(float[2,8] x) => (float[2,8] y) {[big] a = Mul(x, k) [small] y = Mul(a, l)}",
        {"k": np.full(8, 1e6, np.float32), "l": np.full(8, 1e-6, np.float32)},
    )
    options = HalfOptions(keep={"small": "its input is large"})
    assert reasons_to_keep(graph, options)["big"] == "a constant is beyond the range of FP16"
    assert "big" not in reasons_to_keep(graph, HalfOptions("bf16"))
    x = floats(2, 8)
    to_half(graph, options)
    np.testing.assert_allclose(run_graph(graph, {"x": x})[0], x, **FP16_CLOSE)


def test_an_epsilon_that_fp16_rounds_to_zero_keeps_its_node_float32(prepared):
    graph = prepared(
        "(float[2,8] x) => (float[2,8] y) {a = Abs(x) [eps] b = Add(a, e) y = Div(x, b)}",
        {"e": np.float32(1e-12).reshape(())},
    )
    assert reasons_to_keep(graph, HalfOptions()) == {"eps": "a constant is zero in FP16"}


def test_large_finite_weights_do_not_become_infinite(prepared):
    graph = prepared(
        "(float[2,8] x) => (float[2,8] y) {[mul] y = Mul(x, k)}",
        {"k": np.full(8, 65504.0, np.float32)},
    )
    to_half(graph)
    (k,) = [t for t in graph.nodes[1].inputs if t.name == "k_half"]
    assert np.isfinite(k.values).all()


def test_bf16_has_valid_types_and_weights_rounded_half_to_even(prepared):
    graph = prepared(MLP, MLP_WEIGHTS)
    to_half(graph, HalfOptions("bf16"))
    assert computes_in(graph, "one") == computes_in(graph, "two") == {BF16}
    stored = {t.name: t for t in to_proto(graph).graph.initializer}
    values = onnx.numpy_helper.to_array(stored["v_half"])
    expected = MLP_WEIGHTS["v"].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(values.astype(np.float32), expected.astype(np.float32))


def test_below_opset_19_it_says_what_to_do(prepared):
    with pytest.raises(ModelError, match="needs opset 19, the graph has 17"):
        to_half(prepared(MLP, MLP_WEIGHTS, opset=17))


def quantized_mlp(prepared, dtype):
    graph = prepared(MLP, MLP_WEIGHTS)
    tensor, channel = QuantSpec(), QuantSpec("int8", "channel", 1)
    edges = {Edge(n, i): (tensor, channel)[i] for n in ("one", "two") for i in (0, 1)}
    options = InsertOptions(scale_dtype={"fp16": "float16", "bf16": "bfloat16"}[dtype])
    insert_qdq(graph, Plan("m", "tensorrt", edges), {"x": 3.0, "b": 2.0}, options)
    return graph


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_q_and_dq_follow_the_type_of_their_data(prepared, dtype):
    graph = quantized_mlp(prepared, dtype)
    half = {"fp16": FP16, "bf16": BF16}[dtype]
    assert to_half(graph, HalfOptions(dtype)) == len(graph.nodes) - 2  # all but the two Casts
    found = types(graph)
    for node in graph.nodes:
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            assert found[node.inputs[1].name] == half, node.name
    assert computes_in(graph, "one") == computes_in(graph, "two") == {half}


def test_scales_that_were_rounded_for_fp16_are_exact_in_it(prepared, run_graph):
    graph = quantized_mlp(prepared, "fp16")
    x = floats(2, 8)
    (before,) = run_graph(graph, {"x": x})
    scales = {n: t.values for n, t in graph.tensors().items() if n.endswith("_scale")}
    to_half(graph)
    for name, values in scales.items():
        half = graph.tensors()[f"{name}_half"].values
        np.testing.assert_array_equal(half.astype(np.float32), values)
    (after,) = run_graph(graph, {"x": x})
    # a value that FP16 rounds over the edge of a step moves an output by step x weight
    np.testing.assert_allclose(after, before, atol=2.0 / 127 + 5e-3)


def test_the_graph_builds_into_a_strongly_typed_engine(prepared):
    trt = pytest.importorskip("tensorrt_rtx")
    graph = quantized_mlp(prepared, "fp16")
    to_half(graph)
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    parsed = parser.parse(to_proto(graph).SerializeToString())
    assert parsed, [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    assert builder.build_serialized_network(network, config)
