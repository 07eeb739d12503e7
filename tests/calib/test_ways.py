"""Every faster way of calibrating gives place to the plain one wherever it fails."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest

from onnxq.calib import ways
from onnxq.calib.collect import collect
from onnxq.errors import DataError, ModelError
from onnxq.model import graph as graphs
from onnxq.run import magnitudes, segments
from onnxq.run.layout import NCHWC, laid_out
from onnxq.run.program import compile_whole
from onnxq.run.runtime import Runtime
from onnxq.run.segments import restrict

OPEN = """
<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
net (float[N, 16, H, W] x, bool flag) => (float[N, 32, h, w] y)
{
  a = Conv <pads = [1, 1, 1, 1]> (x, w1)
  feat = Relu(a)
"""
CLOSE = """
  c = Conv <pads = [1, 1, 1, 1]> (m, w2)
  y = Relu(c)
}
"""
MIDDLES = {
    "a function that Shape is part of": """
  m = GroupNormalization <num_groups = 8> (feat, ones, zeros)
""",
    "a function that pads": """
  size = Constant <value_ints = [12, 12]> ()
  m = CenterCropPad <axes = [2, 3]> (feat, size)
""",
    "a sequence": """
  length = Constant <value_int = 8> ()
  parts = SplitToSequence <axis = 1> (feat, length)
  last = Constant <value_int = 3> ()
  first = Constant <value_int = 0> ()
  p3 = SequenceAt(parts, last)
  p0 = SequenceAt(parts, first)
  half = Concat <axis = 1> (p3, p0)
  m = Concat <axis = 1> (half, half)
""",
    "the shape of a Transpose": """
  t = Transpose <perm = [0, 2, 3, 1]> (feat)
  size = Shape(t)
  float_size = Cast <to = 1> (size)
  largest = ReduceMax <keepdims = 0> (float_size)
  m = Div(feat, largest)
""",
    "a Conv in a branch": """
  m = If(flag) <
    then_branch = yes () => (float[N, 32, h, w] t) { t = Conv <pads = [1, 1, 1, 1]> (feat, w3) },
    else_branch = no () => (float[N, 32, h, w] e) { e = Identity(feat) }
  >
""",
    "a Conv in a loop": """
  times = Constant <value_int = 2> ()
  m = Loop(times, flag, feat) <
    body = step (int64 i, bool go, float[N, 32, h, w] s)
        => (bool on, float[N, 32, h, w] next) {
      on = Identity(go)
      r = Conv <pads = [1, 1, 1, 1]> (s, w3)
      next = Tanh(r)
    }
  >
""",
}


def parsed(text, **weights):
    model = onnx.parser.parse_model(text)
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return graphs.from_proto(model)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def net(middle):
    return parsed(
        OPEN + middle + CLOSE,
        w1=normal(32, 16, 3, 3) / 12,
        w2=normal(32, 32, 3, 3, seed=1) / 17,
        w3=normal(32, 32, 3, 3, seed=2) / 17,
        ones=np.ones(32, np.float32),
        zeros=np.zeros(32, np.float32),
    )


class Samples(list):
    def sample(self, i):
        return self[i]


def images(count=3):
    return Samples(
        {"x": normal(1, 16, 16, 16, seed=i), "flag": np.array(bool(i % 2))} for i in range(count)
    )


def by_the_plain_way(graph, tensors, data):
    return collect(graph, tensors, data, program=compile_whole(graph, tensors, Runtime()))


def assert_same_ranges(found, plain, names):
    for name in names:
        a, b = found[name], plain[name]
        assert a.count == b.count
        # convolutions of another layout add up in another order: last bits of sums of 288 products
        np.testing.assert_allclose([a.min, a.max], [b.min, b.max], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", MIDDLES)
def test_what_onnx_runtime_runs_is_calibrated(kind):
    graph, data, names = net(MIDDLES[kind]), images(), ["x", "feat", "m", "y"]
    found = collect(graph, names, data)
    assert_same_ranges(found, by_the_plain_way(graph, names, data), names)


def test_a_layout_that_cannot_be_loaded_gives_place(monkeypatch, caplog):
    graph, data, names = net("m = Neg(feat)"), images(), ["feat", "m"]
    if laid_out(restrict(graph, names), Runtime()) is None:
        pytest.skip("this processor has no blocked layout in ONNX Runtime")
    plain = by_the_plain_way(graph, names, data)

    def fails(*args, **kwargs):
        raise OSError("the optimized model is gone")

    monkeypatch.setattr(onnx, "load", fails)  # ONNX Runtime writes the layout, onnx reads it
    with caplog.at_level(logging.INFO, "onnxq"):
        found = collect(graph, names, data)
    assert "calibration laid out is not possible: the optimized model is gone" in caplog.text
    assert_same_ranges(found, plain, names)


def test_a_layout_that_computes_something_else_gives_place(monkeypatch, caplog):
    graph, data, names = net("m = Neg(feat)"), images(), ["feat", "m"]
    if laid_out(restrict(graph, names), Runtime()) is None:
        pytest.skip("this processor has no blocked layout in ONNX Runtime")
    monkeypatch.setattr(magnitudes, "SLACK", -1.0)  # nothing is like anything
    with caplog.at_level(logging.INFO, "onnxq"):
        program = ways.compile_counting(graph, names, Runtime(), data[0])
    assert "calibration laid out is left out: 'feat' is another tensor there" in caplog.text
    assert program.place == {"feat": "feat", "m": "m"}
    assert {node.domain for s, _ in program.segments for node in s.nodes} <= {None, ""}


@pytest.mark.parametrize("at_once", [0, ways.AT_ONCE])
def test_a_layout_that_is_right_is_taken(monkeypatch, at_once):
    graph, names = net("m = Neg(feat)"), ["feat", "m"]
    if laid_out(restrict(graph, names), Runtime()) is None:
        pytest.skip("this processor has no blocked layout in ONNX Runtime")
    monkeypatch.setattr(ways, "AT_ONCE", at_once)
    program = ways.compile_counting(graph, names, Runtime(), images()[0])
    assert NCHWC in {node.domain for s, _ in program.segments for node in s.nodes}


# What a custom op declares is believed, for want of anything better: here it is not true.
STALE = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
net (float[N, L, 8] x) => (float[N, L, 8] y)
<float[1, 4, 8] g>
{
  a = MatMul(x, w)
  g = com.microsoft.Gelu(a)
  y = MatMul(g, w)
}
"""


@pytest.mark.parametrize("lengths", [(6, 6), (4, 6)], ids=["from the first", "from a later"])
def test_segments_that_cannot_run_a_sample_give_place(monkeypatch, caplog, lengths):
    graph, names = parsed(STALE, w=normal(8, 8)), ["a", "g", "y"]
    data = Samples({"x": normal(1, n, 8, seed=n)} for n in lengths)
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1)  # a cut at every tensor
    with caplog.at_level(logging.INFO, "onnxq"):
        found = collect(graph, names, data)
    assert "Got invalid dimensions for input: g" in caplog.text
    assert_same_ranges(found, by_the_plain_way(graph, names, data), names)
    assert found.samples == 2


def test_what_no_way_runs_is_refused_with_the_reason_of_the_plain_one(graph_of):
    graph = graph_of("(float[N, 4] x) => (float[N, 4] y) { a = Nothing(x) y = Relu(a) }")
    with pytest.raises(ModelError, match="ONNX Runtime has no op 'Nothing'"):
        collect(graph, ["a"], Samples([{"x": normal(1, 4)}]))


def test_a_sample_without_an_input_is_not_the_models_fault():
    with pytest.raises(DataError, match="a sample has no input 'x'"):
        collect(net("m = Neg(feat)"), ["m"], Samples([{"flag": np.array(True)}]))
