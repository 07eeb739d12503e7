"""A scale moved from a tensor into what writes it changes no result, or is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from onnxq.passes.affine import NotExact
from onnxq.passes.prepare import prepare
from onnxq.recover.groups import find_groups, scaled
from onnxq.recover.rescale import absorb

EXACT = 1e-5  # of the largest value: float32 rounding of some hundred products


@pytest.fixture
def grouped(graph_of, activations_alone, rng):
    """(graph, its groups) of a body."""

    def make(body, **weights):
        graph = prepare(graph_of(body, {**weights_for(body, rng), **weights}))
        return graph, find_groups(graph, activations_alone(graph))

    return make


def scales_for(groups, rng):
    return {g: np.exp(rng.uniform(-3, 3, g.layout.channels)) for g in groups}


def assert_same(before, after, feeds, run_graph):
    for a, b in zip(run_graph(before, feeds), run_graph(after, feeds), strict=True):
        assert np.abs(a - b).max() <= EXACT * np.abs(a).max()


C = 16
VECTOR = {"w": (C, 8), "g": (C,), "b": (C,), "v": (C, C), "u": (C, C), "vb": (C,), "h": (1, 5, C)}
IMAGE = {"k": (C, C, 3, 3), "kb": (C,), "l": (8, C, 3, 3), "d": (C, 1, 3, 3), "t": (C, C, 2, 2),
         "s": (C, 1, 1), "m": (C, C), "p": (C, 1, 1)}  # fmt: skip
ROWS = "(float[N,5,16] x) => (float[N,5,8] y)"
IMAGES = "(float[N,16,8,8] x) => (y)"

FOLDED = {
    "LayerNormalization": f"{ROWS} {{a = LayerNormalization<axis = -1>(x, g, b) y = MatMul(a, w)}}",
    "LayerNormalization without bias": f"{ROWS} {{a = LayerNormalization(x, g) y = MatMul(a, w)}}",
    "a LayerNormalization in pieces": f"""{ROWS} {{
        m = ReduceMean<axes = [-1]>(x)  c = Sub(x, m)  q = Mul(c, c)
        r = ReduceMean<axes = [-1]>(q)  t = Sqrt(r)  n = Div(c, t)
        o = Mul(n, g)  a = Add(o, b)  y = MatMul(a, w)}}""",
    "a constant factor": f"{ROWS} {{e = Sigmoid(x) a = Mul(e, g) y = MatMul(a, w)}}",
    "one scalar factor": f"""{ROWS} {{half = Constant<value = float {{0.5}}>()
        e = Sigmoid(x) a = Mul(e, half) y = MatMul(a, w)}}""",
    "a constant divisor": f"{ROWS} {{e = Sigmoid(x) a = Div(e, g) y = MatMul(a, w)}}",
    "a linear layer": f"{ROWS} {{e = MatMul(x, v) a = Add(e, vb) y = MatMul(a, w)}}",
    "a summand with rows": f"{ROWS} {{e = MatMul(x, v) a = Add(e, h) y = MatMul(a, w)}}",
    "Relu": f"{ROWS} {{e = MatMul(x, v) r = Relu(e) y = MatMul(r, w)}}",
    "LeakyRelu": f"{ROWS} {{e = MatMul(x, v) r = LeakyRelu(e) y = MatMul(r, w)}}",
    "PRelu": f"{ROWS} {{e = MatMul(x, v) r = PRelu(e, g) y = MatMul(r, w)}}",
    "a sum of two layers": f"""{ROWS} {{
        e = MatMul(x, v)  f = MatMul(x, u)  a = Sub(e, f)  y = MatMul(a, w)}}""",
    "a gate": f"""{ROWS} {{
        e = MatMul(x, v)  f = MatMul(x, u)  z = Sigmoid(e)  a = Mul(z, f)  y = MatMul(a, w)}}""",
    "several readers": """(float[N,5,16] x) => (float[N,5,8] y, float[N,5,16] z) {
        a = LayerNormalization(x, g, b)  y = MatMul(a, w)  z = MatMul(a, v)}""",
    "heads of attention": """(float[N,6,16] x) => (float[N,6,8] y) {
        cut = Constant<value = int64[4] {0, 0, 2, 8}>()
        join = Constant<value = int64[3] {0, 0, 16}>()
        q0 = Reshape(x, cut)  q = Transpose<perm = [0, 2, 1, 3]>(q0)
        k = Transpose<perm = [0, 2, 3, 1]>(q0)  s = MatMul(q, k)  p = Softmax(s)
        e = MatMul(x, v)  eb = Add(e, vb)  e4 = Reshape(eb, cut)
        n = Shape(eb)
        e5 = Transpose<perm = [0, 2, 1, 3]>(e4)  o = MatMul(p, e5)
        o4 = Transpose<perm = [0, 2, 1, 3]>(o)  a = Reshape(o4, join)  y = MatMul(a, w)}""",
    "Gemm": """(float[N,16] x) => (y) {
        e = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, v, vb)  r = Relu(e)
        y = Gemm<transB = 1, alpha = 3.0>(r, u, vb)}""",
    "Conv": f"{IMAGES} {{e = Conv(x, k, kb) r = Relu(e) y = Conv<pads = [1,1,1,1]>(r, l)}}",
    "depthwise": f"""{IMAGES} {{e = Conv(x, k, kb)  r = Relu(e)
        f = Conv<group = 16>(r, d, kb)  q = Relu(f)  y = Conv(q, l)}}""",
    "ConvTranspose": f"""{IMAGES} {{e = ConvTranspose(x, t, kb)  r = Relu(e)
        f = ConvTranspose(r, t)  q = Relu(f)  y = Conv(q, l)}}""",
    "a Clip without an upper end": f"""{IMAGES} {{zero = Constant<value = float {{0.0}}>()
        e = Conv(x, k, kb)  r = Clip(e, zero)  y = Conv(r, l)}}""",
    "pooling": f"""{IMAGES} {{e = Conv(x, k, kb)
        r = MaxPool<kernel_shape = [2, 2], pads = [1, 0, 0, 0]>(e)
        q = AveragePool<kernel_shape = [2, 2], pads = [1, 0, 0, 0]>(r)  y = Conv(q, l)}}""",
    "padding": f"""{IMAGES} {{wide = Constant<value = int64[8] {{0, 0, 1, 1, 0, 0, 1, 1}}>()
        e = Conv(x, k, kb)  r = Pad(e, wide)  y = Conv(r, l)}}""",
    "BatchNormalization": f"""{IMAGES} {{n = MaxPool<kernel_shape = [2, 2]>(x)
        e = BatchNormalization(n, kb, kb, kb, one)  r = Relu(e)  y = Conv(r, l)}}""",
    "a shuffle of channels": f"""{IMAGES} {{cut = Constant<value = int64[5] {{0, 2, 8, 6, 6}}>()
        join = Constant<value = int64[4] {{0, 16, 6, 6}}>()
        e = Conv(x, k, kb)  r = Reshape(e, cut)  o = Transpose<perm = [0, 2, 1, 3, 4]>(r)
        q = Reshape(o, join)  y = Conv(q, l)}}""",
    "a classifier behind pooling": f"""{IMAGES} {{e = Conv(x, k, kb)  r = Relu(e)
        o = GlobalAveragePool(r)  f = Flatten(o)  y = Gemm(f, m)}}""",
}  # fmt: skip


def weights_for(body, rng):
    shapes = {**VECTOR, **IMAGE}
    words = set(re.findall(r"\w+", body)) - set(re.findall(r"(\w+) = [A-Z]", body))
    made = {n: rng.standard_normal(shapes[n]).astype(np.float32) for n in shapes if n in words}
    if "one" in words:
        made["one"] = np.ones(C, np.float32)
    return made


def feed_for(graph, rng):
    shape = [n if isinstance(n, int) else 2 for n in graph.inputs[0].shape]
    return {"x": rng.standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize("case", FOLDED)
def test_the_graph_computes_the_same_and_gets_no_node_more(case, run_graph, rng, grouped):
    graph, groups = grouped(FOLDED[case])
    folded = [g for g in groups if g.folded]
    assert folded
    after = scaled(graph, scales_for(folded, rng))
    assert [n.name for n in after.nodes] == [n.name for n in graph.nodes]
    assert_same(graph, after, feed_for(graph, rng), run_graph)
    name = folded[-1].tensor  # something was moved: the readers read other values
    before_it, after_it = (g.copy() for g in (graph, after))
    for g in (before_it, after_it):
        g.outputs = [g.tensors()[name]]
    a, b = (run_graph(g, feed_for(graph, rng))[0] for g in (before_it, after_it))
    assert np.abs(a - b).max() > 0.1 * np.abs(a).max()


def test_a_scale_of_heads_follows_each_channel_to_its_head(run_graph, rng, grouped):
    body = FOLDED["heads of attention"]
    graph, groups = grouped(body)
    group = next(g for g in groups if g.tensor == "a")
    assert {"o", "e5", "eb"} <= set(group.scaled)
    scale = np.arange(1.0, C + 1)
    after = scaled(graph, {group: scale})
    for g in (graph, after):
        g.outputs = [g.tensors()["a"]]
    feeds = feed_for(graph, rng)
    (a,), (b,) = run_graph(graph, feeds), run_graph(after, feeds)
    np.testing.assert_allclose(b, a / scale, atol=EXACT * np.abs(a).max())


REFUSED = {
    "a Clip at 6": f"""{IMAGES} {{zero = Constant<value = float {{0.0}}>()
        six = Constant<value = float {{6.0}}>()
        e = Conv(x, k, kb)  r = Clip(e, zero, six)  y = Conv(r, l)}}""",
    "SiLU": f"{IMAGES} {{e = Conv(x, k, kb) z = Sigmoid(e) r = Mul(e, z) y = Conv(r, l)}}",
    "a second reader": """(float[N,16,8,8] x) => (y, z) {
        e = Conv(x, k, kb)  r = Relu(e)  y = Conv(r, l)  z = Sigmoid(r)}""",
    "an output": "(float[N,16,8,8] x) => (y, r) {e = Conv(x, k, kb) r = Relu(e) y = Conv(r, l)}",
    "an output farther up": """(float[N,16,8,8] x) => (y, e) {
        e = Conv(x, k, kb)  r = Relu(e)  y = Conv(r, l)}""",
    "padding with ones": f"""{IMAGES} {{
        wide = Constant<value = int64[8] {{0, 0, 1, 1, 0, 0, 1, 1}}>()
        one1 = Constant<value = float {{1.0}}>()
        e = Conv(x, k, kb)  r = Pad(e, wide, one1)  y = Conv(r, l)}}""",
    "pixels that become channels": f"""{IMAGES} {{e = Conv(x, k, kb)
        f = Flatten(e)  y = MatMul(f, big)}}""",
    "an input": f"{IMAGES} {{y = Conv(x, k, kb)}}",
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_exact_is_left_alone(case, rng, grouped):
    big = rng.standard_normal((C * 36, 8)).astype(np.float32)
    _, groups = grouped(REFUSED[case], **({"big": big} if "big" in REFUSED[case] else {}))
    assert not [g for g in groups if g.folded and g.tensor != "x"]


def test_the_refusal_says_why(graph_of, rng):
    graph = prepare(graph_of(REFUSED["a Clip at 6"], weights_for(REFUSED["a Clip at 6"], rng)))
    with pytest.raises(NotExact, match="ends at"):
        absorb(graph, graph.tensors()["r"], np.ones((C, 1, 1)))


def test_a_residual_reader_gets_the_old_values_and_the_others_a_mul(run_graph, rng, grouped):
    body = """(float[N,5,16] x) => (float[N,5,16] y) {
        a = LayerNormalization(x, g, b)  e = MatMul(a, v)  f = MatMul(a, u)
        h = Add(e, f)  y = Add(h, a)}"""
    graph, groups = grouped(body)
    (group,) = groups
    assert not group.folded
    assert len(group.readers) == 2
    after = scaled(graph, scales_for(groups, rng))
    assert sorted(n.op for n in after.nodes) == sorted([*(n.op for n in graph.nodes), "Mul"])
    assert_same(graph, after, feed_for(graph, rng), run_graph)


def test_a_weight_with_another_reader_is_not_changed_for_it(run_graph, rng, grouped):
    body = """(float[N,5,16] x) => (float[N,5,16] y, float[N,5,16] z) {
        a = LayerNormalization(x, g, b)  y = MatMul(a, v)  c = Add(x, x)  z = MatMul(c, v)}"""
    graph, groups = grouped(body)
    (group,) = [g for g in groups if g.folded and g.tensor == "a"]
    after = scaled(graph, scales_for([group], rng))
    assert_same(graph, after, feed_for(graph, rng), run_graph)


def test_the_graph_that_is_given_is_not_changed(rng, grouped):
    body = FOLDED["heads of attention"]
    graph, groups = grouped(body)
    before = {n: t.values.copy() for n, t in graph.tensors().items() if hasattr(t, "values")}
    scaled(graph, scales_for(groups, rng))
    for name, values in before.items():
        np.testing.assert_array_equal(graph.tensors()[name].values, values)
