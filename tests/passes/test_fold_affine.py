"""Constants per channel go into the convolution before them, where that is exact."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.fold_affine import fold_affine

CONV = "(float[N,4,7,7] x) => (float[N,6,5,5] y) {a = Conv(x, w) b = STEP y = Relu(b)}"


def floats(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)


WEIGHTS = {
    "w": floats(6, 4, 3, 3),
    "c": floats(1, 6, 1, 1, seed=1),
    "d": floats(6, 1, 1, seed=2),
    "one": floats(1, seed=3),
}


def ops(graph):
    return [node.op for node in graph.nodes]


@pytest.mark.parametrize(
    "step",
    [
        "Mul(a, c)",
        "Mul(one, a)",
        "Div(a, d)",
        "Add(a, c)",
        "Add(d, a)",
        "Sub(a, c)",
        "Sub(c, a)",
        "Mul(a, c) e = Add(b, d) f = Sub(one, e)",
    ],
)
@pytest.mark.parametrize("op", ["Conv", "Conv2", "ConvTranspose2"])
def test_it_folds_and_preserves_the_numbers(graph_of, run_graph, rng, step, op):
    weights, body = dict(WEIGHTS), CONV.replace("STEP", step)
    if "f =" in step:
        body = body.replace("Relu(b)", "Relu(f)")
    if op == "Conv2":
        body, weights["w"] = body.replace("Conv(", "Conv<group = 2>("), floats(6, 2, 3, 3)
    if op == "ConvTranspose2":
        body = body.replace("Conv(", "ConvTranspose<group = 2>(").replace("5,5]", "9,9]")
        weights["w"] = floats(4, 3, 3, 3)
    graph = graph_of(body, weights)
    before = to_proto(graph)
    once = apply(graph, fold_affine)
    assert ops(once) == [op.rstrip("2"), "Relu"]
    assert to_proto(graph) == before
    assert fold_affine(once) == 0
    feeds = {"x": rng.standard_normal((2, 4, 7, 7)).astype(np.float32)}
    (ref,), (out,) = run_graph(graph, feeds), run_graph(once, feeds)
    # Weights rounded once to float32 and sums of under 40 terms: some hundred times 2^-24.
    np.testing.assert_allclose(out, ref, rtol=1e-5, atol=2e-5 * np.abs(ref).max() + 1e-6)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("Div(c, a)", "divides a constant"),
        ("Div(a, zeros)", "by zero"),
        ("Mul(a, wide)", "more than one value a channel"),
        ("Mul(a, deep)", "more than one value a channel"),
        ("Mul(a, c) e = Neg(a)", "second consumer"),
    ],
)
def test_it_declines_with_a_reason(graph_of, caplog, step, reason):
    extra = {
        "zeros": np.zeros((1, 6, 1, 1), np.float32),
        "wide": floats(5),
        "deep": floats(1, 1, 6, 1, 1),
    }
    graph = graph_of(CONV.replace("STEP", step), WEIGHTS | extra)
    with caplog.at_level(logging.INFO):
        assert fold_affine(graph) == 0
    assert reason in caplog.text


def test_a_constant_that_widens_a_single_channel_stays(graph_of, caplog):
    graph = graph_of(CONV.replace("STEP", "Mul(a, c)"), WEIGHTS | {"w": floats(1, 4, 3, 3)})
    with caplog.at_level(logging.INFO):
        assert fold_affine(graph) == 0
    assert "6 values do not fit 1 channels" in caplog.text


def test_a_computed_weight_keeps_its_neighbours(graph_of, caplog):
    graph = graph_of(
        CONV.replace("(x, w)", "(x, k)")
        .replace("{a", "{k = Relu(x) a")
        .replace("STEP", "Mul(a, c)"),
        WEIGHTS,
    )
    with caplog.at_level(logging.INFO):
        assert fold_affine(graph) == 0
    assert "weight of Conv '' is not constant" in caplog.text


@pytest.mark.parametrize("step", ["Mul(a, a)", "Add(a, x)", "Sigmoid(a)"])
def test_what_is_not_a_constant_map_is_none_of_its_business(graph_of, caplog, step):
    graph = graph_of(CONV.replace("STEP", step), WEIGHTS)
    with caplog.at_level(logging.INFO):
        assert fold_affine(graph) == 0
    assert caplog.text == ""


def test_an_output_of_the_graph_keeps_its_values(graph_of):
    graph = graph_of(
        CONV.replace("STEP", "Mul(a, c)").replace("=> (", "=> (float[N,6,5,5] a, "), WEIGHTS
    )
    assert fold_affine(graph) == 0
