"""Codes that begin at zero stand for the Relu or Clip that a quantizer took out; `strip_qdq` keeps
it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from onnxq.model.graph import from_proto, to_proto
from onnxq.numerics import sqnr_db
from onnxq.passes.apply import apply
from onnxq.passes.strip_qdq import strip_qdq

PAIR = "q = QuantizeLinear(t, s, z) y = DequantizeLinear(q, s, z)"
BODY = "(float[N,4] x) => (float[N,4] y) {%s " + PAIR + "}"
ENDS = {  # zero point: the range of its codes with a scale of 0.5
    "uint8 from 0": (np.uint8(0), 0, 127.5),
    "int8 from -128": (np.int8(-128), 0, 127.5),
    "uint8 to 0": (np.uint8(255), -127.5, 0),
    "int8 to 0": (np.int8(127), -127.5, 0),
}


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def stripped(graph):
    out = apply(graph, strip_qdq)
    onnx.checker.check_model(to_proto(out), full_check=True)
    return out


@pytest.fixture
def pair(graph_of):
    def make(before="t = Neg(x)", zero=ENDS["uint8 from 0"][0], opset=17):
        return graph_of(BODY % before, {"s": np.float32(0.5), "z": np.asarray(zero)}, opset)

    return make


@pytest.mark.parametrize("opset", [10, 17])
@pytest.mark.parametrize("name", ENDS)
def test_codes_on_one_side_of_zero_become_a_clip_to_their_range(pair, run_graph, name, opset):
    zero, low, high = ENDS[name]
    graph = stripped(pair(zero=zero, opset=opset))
    assert [n.op for n in graph.nodes if n.op != "Identity"] == ["Neg", "Clip"]
    x = floats(8, 4) * 200
    np.testing.assert_array_equal(run_graph(graph, {"x": x})[0], np.clip(-x, low, high))


@pytest.mark.parametrize("zero", [np.uint8(128), np.uint8(7), np.int8(0), np.int8(-100)])
def test_codes_on_both_sides_of_zero_are_clipped_where_an_activation_may_have_been(pair, zero):
    assert "Clip" not in [n.op for n in stripped(pair(zero=zero)).nodes]
    sums = [n.op for n in stripped(pair("t = Add(x, x)", zero)).nodes]
    assert ("Clip" in sums) == (zero != 0)  # symmetric codes stand for no activation


NEVER_NEGATIVE = ("t = Relu(x)", "t = Sigmoid(x)", "a = Relu(x) t = Transpose<perm = [0, 1]>(a)",
                  "a = Abs(x) t = Add(a, a)")  # fmt: skip


@pytest.mark.parametrize("before", NEVER_NEGATIVE)
def test_a_tensor_that_is_never_negative_gets_no_clip(pair, before):
    assert "Clip" not in [n.op for n in stripped(pair(before)).nodes]


def test_an_input_gets_no_clip(graph_of):
    body = BODY.replace("t, s, z", "x, s, z") % ""
    graph = graph_of(body, {"s": np.float32(0.5), "z": np.asarray(np.uint8(0))})
    assert [n.op for n in stripped(graph).nodes] == ["Identity"]


def test_codes_that_are_only_moved_move_as_floats(graph_of, run_graph):
    body = """(float[2,4,6,6] x) => (float[2,72] y) {
        a = Neg(x) b = Abs(x)
        q = QuantizeLinear(a, s, z) r = QuantizeLinear(b, s, z)
        c = Concat<axis = 1>(q, r) m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
        t = Transpose<perm = [0, 2, 3, 1]>(m) f = Flatten(t)
        d = DequantizeLinear(f, s, z) e = DequantizeLinear(f, s, z) k = Add(d, e)
        y = Slice(k, zero, most, one)
    }"""
    places = {"zero": [0], "most": [72], "one": [1]}
    weights = {"s": np.float32(1 / 64), "z": np.uint8(0)}
    weights |= {n: np.array(v, np.int64) for n, v in places.items()}
    graph = graph_of(body, {n: np.asarray(w) for n, w in weights.items()}, opset=19)
    floated = stripped(graph)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {n.op for n in floated.nodes}
    x = floats(2, 4, 6, 6)
    ref, y = (run_graph(g, {"x": x})[0] for g in (graph, floated))
    assert np.abs(ref - y).max() <= 1 / 64 * (1 + 1e-5)  # twice half a step


class Reader(CalibrationDataReader):  # ONNX Runtime asks for a class
    def __init__(self, x):
        self.rows = iter([{"x": row[None]} for row in x])

    def get_next(self):
        return next(self.rows, None)


NET = """<ir_version: 8, opset_import: ["": 17]> g (float[1,3,12,12] x) => (float[1,10] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a)
    b = Conv<pads=[1,1,1,1]>(r, w2, b2) c = Clip(b, low, high)
    k = Conv<pads=[1,1,1,1]>(c, w3, b1) d = Clip(k, minus, one) e = Add(d, r) f = Relu(e)
    g0 = GlobalAveragePool(f) h = Flatten(g0) y = Gemm(h, w4, b4)
}"""
SHAPES = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,),
          "w3": (16, 16, 3, 3), "w4": (16, 10), "b4": (10,)}  # fmt: skip


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
def test_a_model_of_onnx_runtimes_quantizer_becomes_the_float_model_it_was(
    tmp_path, run_graph, kind
):
    model = onnx.parser.parse_model(NET)
    rng = np.random.default_rng(0)
    weights = {n: (rng.standard_normal(s) * 0.4).astype(np.float32) for n, s in SHAPES.items()}
    weights |= {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    weights |= {"minus": np.array(-1, np.float32), "one": np.array(1, np.float32)}
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    x = rng.standard_normal((16, 3, 12, 12)).astype(np.float32)
    onnx.save(model, tmp_path / "f.onnx")
    quant_pre_process(tmp_path / "f.onnx", tmp_path / "p.onnx", skip_symbolic_shape=True)
    quantize_static(
        tmp_path / "p.onnx", tmp_path / "q.onnx", Reader(x), quant_format=QuantFormat.QDQ,
        activation_type=QuantType[kind], weight_type=QuantType.QInt8, per_channel=True,
    )  # fmt: skip
    quantized = onnx.load(tmp_path / "q.onnx")
    assert "Clip" not in {n.op_type for n in quantized.graph.node}  # it took them out
    graph = stripped(from_proto(quantized))
    before = from_proto(model)
    for row in x[:4]:
        ref, y = (run_graph(g, {"x": row[None]})[0] for g in (before, graph))
        assert sqnr_db(ref, y) > 35  # what rounding the weights took; without Relus it is 0
