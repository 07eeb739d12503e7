"""Gram matrices of what ops read, over all samples."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.recover import gram
from onnxq.recover.gram import collect_grams, positions
from onnxq.recover.unroll import columns, reading_of

BODY = """(float[N,8,12,12] x) => (float[N,10] y) {
  a = Conv<pads = [1,1,1,1]>(x, w1)  b = Relu(a)
  c = Conv<group = 8, strides = [2,2]>(b, w2)  d = Relu(c)
  e = Flatten(d)  y = Gemm(e, w3)
}"""


@pytest.fixture
def graph(graph_of, rng):
    shapes = {"w1": (8, 8, 3, 3), "w2": (8, 1, 3, 3), "w3": (200, 10)}
    return graph_of(BODY, {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()})


@pytest.fixture
def readings(graph):
    nodes = [node for node in graph.nodes if node.op in ("Conv", "Gemm")]
    pairs = [reading_of(node, 1) for node in nodes]
    return {reading: form.matrix[2] for reading, form in pairs}


def inputs(samples):
    return np.random.default_rng(1).standard_normal((samples, 8, 12, 12)).astype(np.float32)


def test_they_are_sums_over_the_samples_of_each_part(graph, readings, dataset, run_graph):
    x = inputs(5)
    parts = collect_grams(graph, readings, dataset(x), [range(2, 5), range(2)])
    read = graph.copy()
    read.outputs = [read.tensors()[name] for name in ("b", "e")]
    for found, part in zip(parts, (range(2, 5), range(2)), strict=True):
        for reading in readings:
            total = 0.0
            for i in part:
                b, e = run_graph(read, {"x": x[i : i + 1]})
                value = {"x": x[i : i + 1], "b": b, "e": e}[reading.tensor]
                c = columns(reading, value, 1 << 30).astype(np.float64)
                total = total + np.einsum("gkp,glp->gkl", c, c)
            assert found[reading].dtype == np.float64
            # float32 products of at most 144 positions, values near 10
            np.testing.assert_allclose(found[reading], total, rtol=1e-4, atol=1e-2)


def test_workers_do_not_matter(graph, readings, dataset):
    data = dataset(inputs(7))
    one = collect_grams(graph, readings, data, [range(7)], workers=1)[0]
    for workers in (2, 3, 16):
        other = collect_grams(graph, readings, data, [range(7)], workers=workers)[0]
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[r], other[r]) for r in one)


def test_they_are_symmetric_to_the_bit(graph, readings, dataset):
    (found,) = collect_grams(graph, readings, dataset(inputs(3)), [range(3)])
    assert all(np.array_equal(h, h.swapaxes(1, 2)) for h in found.values())


def test_of_many_positions_some_are_looked_at(graph, readings, dataset, monkeypatch):
    data = dataset(inputs(4))
    (whole,) = collect_grams(graph, readings, data, [range(4)])
    monkeypatch.setattr(gram, "POSITIONS", 40)
    monkeypatch.setattr(gram, "PER_INPUT", 0)
    (some,) = collect_grams(graph, readings, data, [range(4)])
    first = next(iter(readings))
    # 9 of 144 positions a sample: every fourth in each direction
    ratio = np.trace(some[first][0]) / np.trace(whole[first][0])
    assert 0.04 < ratio < 0.1


def test_positions_are_shared_out_among_the_samples():
    assert positions(100, 8) * 8 >= gram.POSITIONS + 100 * gram.PER_INPUT
    assert positions(100, 1) == 8 * positions(100, 8)
