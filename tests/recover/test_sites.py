"""Where a bias can be shifted, what is compared behind it, and that a shift arrives there."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.recover.sites import find_sites, shift_biases


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sites_of(graph, plan):
    return find_sites(graph, plan, [node.name for node in graph.nodes])


CONV = "(float[1,16,5,5] x) => (float[1,16,3,3] y) "
ROWS = "(float[1,4,16] x) => (float[1,4,24] y) "
GEMM = "(float[3,16] x) => (float[3,24] y) "
# name: body, weights, shape of the shift where it arrives at y
BIASES = {
    "Conv with a bias": (
        CONV + "{[op] y = Conv(x, w, b)}",
        {"w": floats(16, 16, 3, 3), "b": floats(16, seed=1)},
        (1, 16, 1, 1),
    ),
    "Conv without a bias": (
        CONV + "{[op] y = Conv(x, w)}",
        {"w": floats(16, 16, 3, 3)},
        (1, 16, 1, 1),
    ),
    "depthwise Conv": (
        CONV + "{[op] y = Conv<group = 16>(x, w)}",
        {"w": floats(16, 1, 3, 3)},
        (1, 16, 1, 1),
    ),
    "Gemm with a scaled bias": (
        GEMM + "{[op] y = Gemm<beta = 0.5>(x, w, b)}",
        {"w": floats(16, 24), "b": floats(24, seed=1)},
        (1, 24),
    ),
    "Gemm with a bias for each row": (
        GEMM + "{[op] y = Gemm(x, w, b)}",
        {"w": floats(16, 24), "b": floats(3, 24, seed=1)},
        (1, 24),
    ),
    "Gemm without a bias": (
        GEMM + "{[op] y = Gemm<transB = 1>(x, w)}",
        {"w": floats(24, 16)},
        (1, 24),
    ),
    "MatMul and Add": (
        ROWS + "{[op] t = MatMul(x, w)  [add] y = Add(b, t)}",
        {"w": floats(16, 24), "b": floats(24, seed=1)},
        (1, 1, 24),
    ),
}


@pytest.mark.parametrize("name", BIASES)
def test_a_shift_arrives_at_every_channel_of_the_output(planned, run_graph, name):
    body, weights, shape = BIASES[name]
    graph, plan = planned(body, weights)
    (site,) = sites_of(graph, plan)
    shift = floats(site.channels, seed=2)
    x = floats(*graph.inputs[0].shape, seed=3)
    (before,) = run_graph(graph, {"x": x})
    copy = graph.copy()
    assert shift_biases(copy, {site: shift}) == 1
    (after,) = run_graph(copy, {"x": x})
    # float32 sums of at most 145 terms near 1, in another order: well under 1e-4
    np.testing.assert_allclose(after - before, np.broadcast_to(shift.reshape(shape), after.shape),
                               atol=1e-4)  # fmt: skip
    np.testing.assert_array_equal(run_graph(graph, {"x": x})[0], before)


def test_a_bias_that_two_ops_share_is_shifted_for_one_of_them(planned, run_graph):
    graph, plan = planned(
        "(float[1,16,5,5] x) => (float[1,16,3,3] y, float[1,16,3,3] z) "
        "{[one] y = Conv(x, w, b)  [two] z = Conv(x, v, b)}",
        {"w": floats(16, 16, 3, 3), "v": floats(16, 16, 3, 3, seed=1), "b": floats(16, seed=2)},
    )
    x = {"x": floats(1, 16, 5, 5)}
    before = run_graph(graph, x)
    (site,) = (s for s in sites_of(graph, plan) if s.node == "one")
    shift_biases(graph, {site: np.ones(16, np.float32)})
    y, z = run_graph(graph, x)
    np.testing.assert_allclose(y - before[0], 1, atol=1e-4)  # sums of 145 float32 terms
    np.testing.assert_array_equal(z, before[1])


NO_PLACE = {
    "MatMul without an Add": ROWS + "{[op] y = MatMul(x, w)}",
    "MatMul and an Add of what is computed": ROWS + "{[op] t = MatMul(x, w) y = Add(t, t)}",
    "MatMul that is read twice": ROWS + "{[op] t = MatMul(x, w) s = Add(t, b) y = Mul(s, t)}",
    "Gemm that ignores its bias": GEMM + "{[op] y = Gemm<beta = 0.0>(x, w, b)}",
    "Gemm with a computed bias": GEMM + "{[op] c = Exp(x) r = Gemm(x, w) y = Gemm(x, w, r)}",
}


@pytest.mark.parametrize("name", NO_PLACE)
def test_an_op_without_a_constant_bias_of_its_own_is_left_alone(planned, name):
    graph, plan = planned(NO_PLACE[name], {"w": floats(16, 24), "b": floats(24)})
    last = next(n.name for n in reversed(graph.nodes) if n.op in ("MatMul", "Gemm"))
    assert last in plan.nodes
    assert last not in [site.node for site in sites_of(graph, plan)]


def test_an_op_that_stays_float_has_no_site(planned):
    graph, plan = planned(CONV + "{[op] y = Conv(x, w)}", {"w": floats(16, 16, 3, 3)})
    assert sites_of(graph, plan.without("op")) == []


REGIONS = {
    "nothing behind it": ("y = AveragePool<kernel_shape = [1, 1]>(t)", "t", []),
    "Relu": ("r = Relu(t) y = MaxPool<kernel_shape = [1, 1]>(r)", "r", ["Relu"]),
    "SiLU": ("s = Sigmoid(t) r = Mul(t, s) y = MaxPool<kernel_shape = [1, 1]>(r)", "r",
             ["Sigmoid", "Mul"]),
    "HardSwish written out": (
        "a = Add(t, three) c = Clip(a, zero, six) m = Mul(t, c) r = Div(m, six) "
        "y = MaxPool<kernel_shape = [1, 1]>(r)", "r", ["Add", "Clip", "Mul", "Div"]),
    "a residual sum and its Relu": (
        "a = Add(t, skip) r = Relu(a) y = MaxPool<kernel_shape = [1, 1]>(r)", "r", ["Add", "Relu"]),
    "a gate": ("s = Sigmoid(t) y = Mul(skip, s)", "s", ["Sigmoid"]),
    "an output before the activation": ("y = Identity(t) r = Relu(t)", "t", []),
    "a tensor that two layers read": (
        "r = Relu(t) p = MaxPool<kernel_shape = [1, 1]>(r) "
        "q = AveragePool<kernel_shape = [1, 1]>(r) y = Add(p, q)", "r", ["Relu"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REGIONS)
def test_what_is_compared_is_the_tensor_that_the_next_layer_reads(planned, name):
    nodes, compared, ops = REGIONS[name]
    extra = ", float[1,16,3,3] t" if name.startswith("an output") else ""
    graph, plan = planned(
        f"(float[1,16,5,5] x) => (float[1,16,3,3] y{extra}) "
        "<float three = {3}, float six = {6}, float zero = {0}> "
        "{skip = MaxPool<kernel_shape = [3, 3]>(x)  [op] t = Conv(x, w) " + nodes + "}",
        {"w": floats(16, 16, 3, 3)},
    )
    (site,) = sites_of(graph, plan)
    kinds = {node.name: node.op for node in graph.nodes}
    assert (site.compared, [kinds[n] for n in site.region]) == (compared, ops)


def test_the_other_summand_must_be_computed_first(planned):
    """Of two branches that meet in a sum, the one that runs first is compared before the sum."""
    graph, plan = planned(
        "(float[1,16,5,5] x) => (float[1,16,3,3] y) "
        "{[a] t = Conv(x, w)  [b] s = Conv(x, v)  u = Add(t, s) r = Relu(u) y = Exp(r)}",
        {"w": floats(16, 16, 3, 3), "v": floats(16, 16, 3, 3, seed=1)},
    )
    assert [site.compared for site in sites_of(graph, plan)] == ["t", "r"]
