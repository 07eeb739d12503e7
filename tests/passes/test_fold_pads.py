"""A Pad of zeros goes into the Convs that read it; every other Pad stays, with the reason."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.fold_pads import fold_pads

BODY = "(float[N,4,7,7] x) => (float[N,6,h,w] y) {p = Pad(x, pads) a = CONV y = Relu(a)}"
W = np.random.default_rng(0).standard_normal((6, 4, 3, 3)).astype(np.float32)


def constants(pads=(0, 0, 0, 0, 0, 0, 1, 1), **more):
    return {"w": W, "pads": np.array(pads, np.int64), **more}


def ops(graph):
    return [node.op for node in graph.nodes]


def same_numbers(run_graph, rng, before, after):
    feeds = {"x": rng.standard_normal((2, 4, 7, 7)).astype(np.float32)}
    for ref, out in zip(run_graph(before, feeds), run_graph(after, feeds), strict=True):
        # The same products, added in another order: some ten times 2^-24 of the largest.
        np.testing.assert_allclose(out, ref, rtol=0, atol=1e-6 * np.abs(ref).max())


@pytest.mark.parametrize(
    ("conv", "pad", "pads", "total"),
    [
        ("Conv(p, w)", "Pad(x, pads)", (0, 0, 0, 0, 0, 0, 1, 1), [0, 0, 1, 1]),
        ("Conv<pads = [1, 2, 0, 1]>(p, w)", "Pad(x, pads)", (0, 0, 1, 0, 0, 0, 0, 3), [2, 2, 0, 4]),
        ("Conv<auto_pad = 'VALID'>(p, w)", "Pad(x, pads, zero)", (0, 0, 1, 1, 0, 0, 1, 1), [1] * 4),
        ("Conv<strides = [2, 2]>(p, w)", "Pad(x, pads,, axes)", (1, 2, 3, 0), [2, 1, 0, 3]),
    ],
)
def test_a_pad_of_zeros_goes_into_the_conv(graph_of, run_graph, rng, conv, pad, pads, total):
    body = BODY.replace("CONV", conv.replace("'", '"')).replace("Pad(x, pads)", pad)
    extra = {"zero": np.float32(0), "axes": np.array([3, -2], np.int64)}
    extra = {name: value for name, value in extra.items() if name in pad}
    graph = graph_of(body, constants(pads, **extra), opset=18)
    before = to_proto(graph)
    once = apply(graph, fold_pads)
    assert ops(once) == ["Conv", "Relu"]
    assert list(once.nodes[0].attrs["pads"]) == total
    assert to_proto(graph) == before
    assert fold_pads(once) == 0
    same_numbers(run_graph, rng, graph, once)


def test_every_conv_behind_it_takes_the_pad(graph_of, run_graph, rng):
    body = (
        "(float[N,4,7,7] x) => (float[N,6,6,6] y, float[N,6,4,4] z) "
        "{p = Pad(x, pads) y = Conv(p, w) z = Conv<dilations = [2, 2]>(p, w)}"
    )
    graph = graph_of(body, constants())
    once = apply(graph, fold_pads)
    assert ops(once) == ["Conv", "Conv"]
    same_numbers(run_graph, rng, graph, once)


@pytest.mark.parametrize(
    ("conv", "pad", "pads", "reason"),
    [
        ("Conv(p, w)", 'Pad<mode = "reflect">(x, pads)', (0, 0, 1, 1, 0, 0, 1, 1), "by 'reflect'"),
        ("Conv(p, w)", "Pad(x, pads, one)", (0, 0, 1, 1, 0, 0, 1, 1), "another value than 0"),
        ("Conv(p, w)", "Pad(x, pads)", (0, 0, -1, 0, 0, 0, 0, 0), "or crops"),
        ("Conv(p, w)", "Pad(x, pads)", (1, 0, 0, 0, 0, 0, 0, 0), "samples or channels"),
        ('Conv<auto_pad = "SAME_UPPER">(p, w)', "Pad(x, pads)", (0,) * 7 + (1,), "by itself"),
        ("Conv(p, w) b = Abs(p)", "Pad(x, pads)", (0,) * 7 + (1,), "reads it too"),
    ],
)
def test_it_declines_with_a_reason(graph_of, caplog, conv, pad, pads, reason):
    body = BODY.replace("CONV", conv).replace("Pad(x, pads)", pad)
    if "b =" in conv:
        body = body.replace("w] y)", "w] y, float[N,4,u,v] b)")
    extra = {"one": np.float32(1)} if "one" in pad else {}
    graph = graph_of(body, constants(pads, **extra))
    with caplog.at_level(logging.INFO, "onnxq"):
        assert fold_pads(graph) == 0
    assert reason in caplog.text
    assert "Pad" in ops(graph)
