"""Every op that has types of its own: valid and near FP32 after the conversion."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnxq.model.graph import to_proto
from onnxq.passes.prepare import prepare
from onnxq.passes.to_half import HalfOptions, to_half

FP32, FP16 = TensorProto.FLOAT, TensorProto.FLOAT16
# Every value is rounded to FP16, by 2^-11 of it, and the sums here are short.
FP16_CLOSE = {"rtol": 5e-3, "atol": 5e-3}


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


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


@pytest.fixture
def prepared(graph_of):
    def make(body, weights=None, opset=19):
        return prepare(graph_of(body, weights, opset))

    return make


OPS = {
    "Resize with constant scales": (
        "(float[1,2,4,4] x) => (float[1,2,8,8] y) {[op] y = Resize(x, , s)}",
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "Resize with sizes": (
        '(float[1,2,4,4] x) => (float[1,2,8,8] y) {[op] y = Resize<mode = "linear">(x, , , n)}',
        {"n": np.array([1, 2, 8, 8])},
    ),
    "Resize with computed scales": (
        """(float[1,2,4,4] x, float[4] r) => (float[1,2,8,8] y) {
            s = Add(r, r) [op] y = Resize(x, , s)
        }""",
        {},
    ),
    "Cast from integers": (
        "(int64[2,8] n, float[2,8] x) => (float[2,8] y) {c = Cast<to = 1>(n) [op] y = Add(x, c)}",
        {},
    ),
    "Cast to integers": (
        "(float[2,8] x) => (int64[2,8] y) {a = Add(x, x) [op] y = Cast<to = 7>(a)}",
        {},
    ),
    "ConstantOfShape of zeros": (
        """(float[N,8] x) => (float[N,8] y) {
            n = Shape(x) c = ConstantOfShape(n) [op] y = Add(x, c)
        }""",
        {},
    ),
    "ConstantOfShape of a value": (
        """(float[N,8] x) => (float[N,8] y) {
            n = Shape(x) c = ConstantOfShape<value = float[1] {2.5}>(n) [op] y = Add(x, c)
        }""",
        {},
    ),
    "ConstantOfShape of integers": (
        """(float[N,8] x) => (float[N,8] y) {
            n = Shape(x) c = ConstantOfShape<value = int64[1] {2}>(n) f = Cast<to = 1>(c)
            [op] y = Add(x, f)
        }""",
        {},
    ),
    "Clip": (
        "(float[2,8] x) => (float[2,8] y) {[op] y = Clip(x, l, h)}",
        {"l": np.float32(0), "h": np.float32(0.5)},
    ),
    "Clip without a lower end": (
        "(float[2,8] x) => (float[2,8] y) {[op] y = Clip(x, , h)}",
        {"h": np.float32(0.5)},
    ),
    "Where": (
        "(bool[2,8] c, float[2,8] x) => (float[2,8] y) {[op] y = Where(c, x, k)}",
        {"k": np.float32(-100)},
    ),
    "Where with minus infinity": (
        "(bool[2,8] c, float[2,8] x) => (float[2,8] y) {w = Where(c, x, k) [op] y = Softmax(w)}",
        {"k": np.float32(-np.inf)},
    ),
    "TopK": (
        "(float[2,8] x) => (float[2,2] y, int64[2,2] i) {[op] y, i = TopK(x, k)}",
        {"k": np.array([2])},
    ),
    "Pad": (
        "(float[2,8] x) => (float[2,10] y) {[op] y = Pad(x, p, v)}",
        {"p": np.array([0, 1, 0, 1]), "v": np.float32(0.5)},
    ),
    "BatchNormalization": (
        "(float[2,8,3] x) => (float[2,8,3] y) {[op] y = BatchNormalization(x, k, k, k, v)}",
        {"k": floats(8), "v": floats(8) ** 2 + 1},
    ),
    "LayerNormalization": (
        "(float[2,8] x) => (float[2,8] y) {a = Add(x, x) [op] y = LayerNormalization(a, k)}",
        {"k": floats(8)},
    ),
    "GreaterOrEqual": (
        "(float[2,8] x) => (bool[2,8] y) {a = Add(x, x) [op] y = GreaterOrEqual(a, k)}",
        {"k": np.float32(0.25)},
    ),
    "Einsum": (
        '(float[2,8] x) => (float[2,2] y) {[op] y = Einsum<equation = "ik,jk->ij">(x, x)}',
        {},
    ),
    "If": (
        """(bool c, float[2,8] x) => (float[2,8] y) {
            a = Add(x, x)
            [op] b = If(c) <
                then_branch = yes () => (float[2,8] p) { p = Neg(a) },
                else_branch = no () => (float[2,8] q) {
                    q = If(c) <
                        then_branch = inner () => (float[2,8] r) { r = Mul(x, x) },
                        else_branch = outer () => (float[2,8] t) { t = Sub(a, x) }
                    >
                }
            >
            y = Add(b, b)
        }""",
        {},
    ),
}


def feeds_of(graph):
    rng = np.random.default_rng(3)
    made = {
        "x": lambda t: floats(*(d if isinstance(d, int) else 2 for d in t.shape), seed=3),
        "n": lambda t: rng.integers(-5, 5, t.shape),
        "c": lambda t: np.asarray(rng.random(t.shape or ()) < 0.5),
        "r": lambda t: np.array([0.5, 0.5, 1, 1], np.float32),
    }
    return {t.name: made[t.name](t) for t in graph.inputs}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("io", ["keep", "half"])
def test_ops_with_types_of_their_own_stay_valid_and_near(prepared, run_graph, name, io):
    body, weights = OPS[name]
    graph = prepared(body, {n: np.asarray(w) for n, w in weights.items()})
    feeds = feeds_of(graph)
    before = run_graph(graph, feeds)
    to_half(graph, HalfOptions(io=io))
    found = types(graph)
    half = {FP16 if io == "half" else FP32}
    ends = (*graph.inputs, *graph.outputs)
    assert {found[t.name] for t in ends} & {FP16, FP32} <= half
    if io == "half":
        feeds = {k: x.astype(np.float16) if x.dtype == np.float32 else x for k, x in feeds.items()}
    for got, expected in zip(run_graph(graph, feeds), before, strict=True):
        np.testing.assert_allclose(got.astype(np.float64), expected, **FP16_CLOSE)


@pytest.mark.parametrize("name", ["LayerNormalization", "Einsum", "If"])
def test_ops_without_a_half_form_compute_in_float32(prepared, name):
    body, weights = OPS[name]
    graph = prepared(body, weights)
    to_half(graph)
    found = types(graph)
    (node,) = [n for n in graph.nodes if n.name == "op"]
    used = {found[t.name] for t in (*node.inputs, *node.outputs)}
    assert used & {FP32, FP16} == {FP32}


@pytest.mark.parametrize("name", OPS)
def test_bf16_is_valid_for_every_op(prepared, name):
    body, weights = OPS[name]
    graph = prepared(body, {n: np.asarray(w) for n, w in weights.items()})
    to_half(graph, HalfOptions("bf16"))
    types(graph)
