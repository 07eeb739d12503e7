"""Taking Q/DQ out gives the float model back, weights as they were rounded."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxq.errors import ModelError
from onnxq.model.graph import to_proto
from onnxq.numerics import amax_of, fake_quant
from onnxq.passes.insert_qdq import InsertOptions, insert_qdq
from onnxq.passes.strip_qdq import quantized_nodes, strip_qdq
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec

CONV = "(float[N,4,6,6] x) => (float[N,8,4,4] y) {[conv] a = Conv(x, w, b) y = Relu(a)}"
CHANNEL = QuantSpec("int8", "channel", 0)
PLAN = Plan("m", "tensorrt", {Edge("conv", 0): QuantSpec(), Edge("conv", 1): CHANNEL})
PAIR = """
    s = Constant<value = float {0.5}>()
    z = Constant<value = int8 {0}>()
    q = QuantizeLinear(x, s, z)
"""


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WEIGHTS = {"w": floats(8, 4, 3, 3), "b": floats(8, seed=1)}


@pytest.mark.parametrize("weights_as", ["int", "float"])
def test_a_quantized_model_becomes_float_again(graph_of, run_graph, weights_as):
    graph = graph_of(CONV, WEIGHTS)
    insert_qdq(graph, PLAN, {"x": 2.0}, InsertOptions(weights_as))
    assert strip_qdq(graph) == 2
    assert [n.op for n in graph.nodes] == ["Conv", "Relu"]
    assert not quantized_nodes(graph)
    onnx.checker.check_model(to_proto(graph), full_check=True)
    w = WEIGHTS["w"]
    if weights_as == "int":
        w = fake_quant(w, amax_of(w, CHANNEL), CHANNEL)
    x = floats(2, 4, 6, 6, seed=2)
    np.testing.assert_array_equal(
        run_graph(graph, {"x": x}), run_graph(graph_of(CONV, {**WEIGHTS, "w": w}), {"x": x})
    )


def test_a_float_model_is_left_alone(graph_of):
    graph = graph_of(CONV, WEIGHTS)
    before = to_proto(graph).SerializeToString()
    assert strip_qdq(graph) == 0
    assert to_proto(graph).SerializeToString() == before


def test_a_float16_model_stays_float16(graph_of):
    weights = {n: w.astype(np.float16) for n, w in WEIGHTS.items()}
    graph = graph_of(CONV.replace("float[", "float16["), weights, opset=19)
    insert_qdq(graph, PLAN, {"x": 2.0})
    strip_qdq(graph)
    onnx.checker.check_model(to_proto(graph), full_check=True)
    assert graph.nodes[0].inputs[1].dtype == np.float16


def test_a_quantized_output_keeps_its_name(graph_of, run_graph):
    graph = graph_of("(float[N] x) => (float[N] y) {" + PAIR + "y = DequantizeLinear(q, s, z)}")
    assert strip_qdq(graph) == 1
    x = floats(5)
    (y,) = run_graph(graph, {"x": x})
    np.testing.assert_array_equal(y, x)
    assert [t.name for t in graph.outputs] == ["y"]


def test_an_output_that_is_read_inside_too_is_stripped_for_both(graph_of, run_graph):
    graph = graph_of(
        "(float[N] x) => (float[N] y, float[N] k) {"
        + PAIR
        + "y = DequantizeLinear(q, s, z) k = Neg(y)}"
    )
    strip_qdq(graph)
    x = floats(5)
    np.testing.assert_array_equal(run_graph(graph, {"x": x}), [x, -x])


@pytest.mark.parametrize(
    ("codes", "scale", "zero", "attributes", "expected"),
    [
        (np.array([[-8, 7]], np.int8), 0.5, None, "", [[-4, 3.5]]),
        (np.array([[0, 255]], np.uint8), 0.5, np.uint8(128), "", [[-64, 63.5]]),
        (np.array([[1, 2], [3, 4]], np.int8), [1.0, 10.0], None, "<axis = 0>", [[1, 2], [30, 40]]),
        (np.array([[1, 2], [3, 4]], np.int8), [1.0, 10.0], None, "", [[1, 20], [3, 40]]),
        (
            np.array([[5, 5], [5, 5]], np.int8), [1.0, 10.0], np.array([1, 2], np.int8),
            "<axis = -2>", [[4, 4], [30, 30]],
        ),
        (
            np.ones((3, 2), np.int8), [[1.0, 2.0], [3.0, 4.0]], None,
            "<axis = 0, block_size = 2>", [[1, 2], [1, 2], [3, 4]],
        ),
        (np.array([2**24 + 1], np.int32), 1.0, None, "", [2**24]),
    ],
)  # fmt: skip
def test_stored_integers_become_codes_times_scale(
    graph_of, codes, scale, zero, attributes, expected
):
    weights = {"c": codes, "s": np.array(scale, np.float32)}
    weights |= {} if zero is None else {"z": np.asarray(zero)}
    inputs = "c, s" if zero is None else "c, s, z"
    graph = graph_of(
        "(float[M,N] x) => (float[M,N] y) {"
        f"w = DequantizeLinear{attributes}({inputs}) y = Add(x, w)}}",
        weights,
        opset=21,
    )
    assert strip_qdq(graph) == 1
    values = graph.nodes[0].inputs[1].values
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.array(expected, np.float32))


REFUSED = {
    "an integer op": (
        "(int8[M,K] x) => (int32[M,N] y) {[mm] y = MatMulInteger(x, w)}",
        "'mm' is a MatMulInteger, which has no float form",
    ),
    "integers from outside": (
        "(int8[N] x) => (float[N] y) {[dq] y = DequantizeLinear(x, s)}",
        "'dq' dequantizes a tensor that is not constant",
    ),
    "integers in between": (
        "(float[N] x) => (float[N] y) "
        "{ q = QuantizeLinear(x, s, z) t = Abs(q) [dq] y = DequantizeLinear(t, s, z)}",
        "'dq' dequantizes a tensor that is not constant",
    ),
    "moved integers read elsewhere": (
        "(float[N] x) => (float[N] y, int8[N] t) "
        "{ q = QuantizeLinear(x, s, z) t = Transpose(q) [dq] y = DequantizeLinear(t, s, z)}",
        "'dq' dequantizes a tensor that is not constant",
    ),
    "moved integers with another scale": (
        "(float[N] x) => (float[N] y) "
        "{ q = QuantizeLinear(x, s, z) t = Transpose(q) [dq] y = DequantizeLinear(t, two, z)}",
        "'dq' has another scale or zero point than the codes it reads",
    ),
    "integers to the outside": (
        "(float[N] x) => (int8[N] y) {[q] y = QuantizeLinear(x, s, z)}",
        "'q' quantizes for something that is no DequantizeLinear",
    ),
    "scales along no axis": (
        "(float[3] x) => (float[3] y) {[dq] d = DequantizeLinear(b, v) y = Add(x, d)}",
        "'dq' has 3 scales along axis 1 of shape",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_float_form_is_refused(graph_of, name):
    body, message = REFUSED[name]
    weights = {"w": np.ones((4, 4), np.int8), "s": np.float32(0.5), "z": np.int8(0)}
    weights |= {"b": np.ones(3, np.int32), "two": np.float32(2), "v": np.ones(3, np.float32)}
    weights = {n: np.asarray(w) for n, w in weights.items()}
    with pytest.raises(ModelError, match=message):
        strip_qdq(graph_of(body, weights))
