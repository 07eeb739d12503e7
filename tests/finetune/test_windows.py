"""Through a window come the values that come without one, and gradients are those of its part."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='pip install "onnxq[finetune]"')

from onnxq.finetune.interpreter import Interpreter, to_torch  # noqa: E402
from onnxq.finetune.windows import PLACES, view_of, window_of  # noqa: E402
from onnxq.passes.name_nodes import name_nodes  # noqa: E402

WEIGHTS = {"w0": (8, 3, 3, 3), "w1": (8, 1, 5, 5), "w2": (16, 8, 1, 1), "w3": (8, 16, 3, 3),
           "w4": (8, 8, 3, 3), "slope": (8, 1, 1)}  # fmt: skip
BODIES = {
    "a strided stem, a depthwise and a dilated Conv": """(float[N,3,97,120] x) => (float[] y) {
      [c0] a = Conv<strides = [2,2], pads = [1,1,1,1]>(x, w0)  r = PRelu(a, slope)
      [c1] b = Conv<group = 8, auto_pad = "SAME_UPPER", strides = [1,1]>(r, w1)
      [c2] c = Conv(b, w2)  [c3] d = Conv<dilations = [2,2], pads = [2,2,2,2]>(c, w3)
      s = Add(d, r)  y = Relu(s) }""",
    "a pyramid that is joined again": """(float[N,3,96,128] x) => (float[] y, float[] z) {
      [c0] a = Conv<pads = [1,1,1,1]>(x, w0)
      p = MaxPool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(a)
      [c4] q = Conv<strides = [2,2], pads = [1,1,1,1]>(p, w4)  z = Sigmoid(q)
      u = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric",
                 nearest_mode = "floor">(z, , four)
      j = Concat<axis = 1>(a, u)  k, l = Split<axis = 1>(j, halves)  m = Mul(k, l)
      [c9] y = Conv<pads = [0,1,2,1]>(m, w4) }""",
    "gates that see all, and what has no places": """
    (float[N,3,64,80] x) => (float[] y, float[] f) {
      [c0] a = Conv<pads = [1,1,1,1]>(x, w0)  g = GlobalAveragePool(a)  s = Sigmoid(g)
      m = Mul(a, s)  [c4] y = Conv<pads = [1,1,1,1]>(m, w4)
      i = InstanceNormalization(m, ones, zeros)  t = Transpose<perm = [0,2,3,1]>(i)
      f = Flatten(t) }""",
}


@pytest.fixture
def nodes_of(graph_of):
    rng = np.random.default_rng(0)
    held = {n: rng.normal(size=s).astype(np.float32) for n, s in WEIGHTS.items()}
    held |= {"four": np.float32([1, 1, 4, 4]), "halves": np.int64([8, 8]),
             "ones": np.ones(8, np.float32), "zeros": np.zeros(8, np.float32)}  # fmt: skip

    def make(body):
        graph = graph_of(body, {n: x for n, x in held.items() if n in body})
        name_nodes(graph)
        size = [2, *graph.inputs[0].shape[1:]]
        return graph, to_torch(rng.normal(size=size).astype(np.float32))

    return make


@pytest.mark.parametrize("what", BODIES, ids=str)
def test_values_and_gradients_are_those_of_the_whole(nodes_of, what):
    graph, x = nodes_of(BODIES[what])
    outputs = [t.name for t in graph.outputs]
    every = tuple(t.name for node in graph.nodes for t in node.outputs)
    run = Interpreter.of(graph.nodes, every)
    shapes = {n: tuple(v.shape) for n, v in {"x": x, **run.run({"x": x})}.items()}
    run = Interpreter.of(graph.nodes, outputs)
    rng = np.random.default_rng(1)
    for _ in range(12):
        view = view_of(graph.nodes, outputs, shapes, window_of(outputs, shapes, rng))
        runs = []
        for part in (True, False):
            given = x.clone().requires_grad_()
            live = view.of({"x": given}) if part else {"x": given}
            out = run.run(live, seen=view.steps if part else None)
            out = out if part else view.of(out)
            sum(v.square().sum() for v in out.values()).backward()
            runs.append({**out, "gradient": given.grad})
        for name, seen in runs[0].items():
            assert seen.shape == runs[1][name].shape
            off = (seen - runs[1][name]).abs().max() / runs[1][name].abs().max()
            assert off < 1e-4, name  # sums of float32 in another order


def test_a_window_lies_at_the_same_place_of_each_output_and_reads_little_else(nodes_of):
    graph, x = nodes_of(BODIES["a pyramid that is joined again"])
    every = tuple(t.name for node in graph.nodes for t in node.outputs)
    run = Interpreter.of(graph.nodes, every)
    shapes = {n: tuple(v.shape) for n, v in {"x": x, **run.run({"x": x})}.items()}
    window = window_of(["y", "z"], shapes, np.random.default_rng(3))
    for (a, b), (c, d) in zip(window["y"], window["z"], strict=True):
        assert b - a <= PLACES + 4
        assert a <= 4 * c + 4
        assert d <= b // 4 + 1
    seen = view_of(graph.nodes, ["y", "z"], shapes, window).shapes(shapes)
    assert np.prod(seen["x"]) < np.prod(shapes["x"]) / 3
    small = {n: s if len(s) < 3 else (*s[:2], 8, 8) for n, s in shapes.items()}
    assert window_of(["y", "z"], small, np.random.default_rng(0)) is None
