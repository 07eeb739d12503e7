"""Scales are refined where the model's outputs gain, and left alone where only an op does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxq.calib.methods import Max
from onnxq.calib.ranges import Range, Ranges, read_ranges
from onnxq.model.graph import constant_of, node_by_name
from onnxq.numerics import amax_of, dequantize, scale_of, sqnr_db
from onnxq.passes.insert_qdq import Codes
from onnxq.plan import Plan
from onnxq.recover.draft import Draft
from onnxq.recover.keeping import LOWERS
from onnxq.recover.scales import NO_GAIN, scales
from onnxq.spec import Edge, QuantSpec

LINEAR = "(float[N,32] x) => (float[N,24] y) {[op] y = MatMul(x, w)}"
FOUR_BITS = QuantSpec("int4-in-int8", "channel", 1)


def rows(samples, seed=0):
    """Inputs whose first column is small."""
    x = np.random.default_rng(seed).standard_normal((samples, 32)).astype(np.float32)
    x[:, 0] *= 0.01
    return x


def outlying(seed=0):
    """Weights with one large value a column, for the small input."""
    w = np.random.default_rng(seed).uniform(-1, 1, (32, 24)).astype(np.float32)
    w[0] = 2
    return w


def weights_alone(spec, node="op"):
    return Plan("m", "tensorrt", {Edge(node, 1): spec})


def fresh_sqnr(bench, graph, draft, run_graph):
    x = rows(64, seed=9)
    return sqnr_db(run_graph(graph, {"x": x})[0], run_graph(bench.quantized(draft), {"x": x})[0])


@pytest.mark.parametrize(
    "spec",
    [FOUR_BITS, QuantSpec("int4-in-int8"), QuantSpec("int4", "block", 0, 16)],
    ids=["channel", "tensor", "block"],
)
def test_a_large_weight_that_hardly_matters_is_clipped(
    graph_of, dataset, bench_of, run_graph, spec
):
    w = outlying()
    graph = graph_of(LINEAR, {"w": w}, opset=21)
    bench = bench_of(graph, weights_alone(spec), dataset(rows(64)))
    before = Draft(graph, Ranges("m", {}))
    after, outcome = scales(bench, before)
    codes = after.codes["w", spec]
    old = scale_of(amax_of(w, spec), spec)
    assert outcome.gains["op"] > 2
    assert np.all(codes.scale <= old)
    assert codes.scale.min() < 0.7 * old.max()  # the block without a large weight needs no change
    np.testing.assert_array_equal(
        codes.codes, np.clip(np.rint(dequantized_steps(w, codes.scale, spec)), -8, 7)
    )
    plain, better = (fresh_sqnr(bench, graph, d, run_graph) for d in (before, after))
    assert better > plain + 2  # the step halves nearly: up to 6 dB


def dequantized_steps(w, scale, spec):
    """w / scale, with the scale of each weight."""
    return w / dequantize(np.ones(w.shape), scale, spec)


def test_a_large_activation_that_hardly_matters_is_clipped(
    graph_of, dataset, bench_of, activations_alone, run_graph
):
    w = np.random.default_rng(0).standard_normal((32, 24)).astype(np.float32)
    w[0] = 0
    graph = graph_of(LINEAR, {"w": w})
    plan, x = activations_alone(graph), rows(64)
    x[:, 0] = 8  # nothing reads it
    bench = bench_of(graph, plan, dataset(x))
    wide = bench.ranges(graph)
    before = Draft(graph, replace(wide, tensors={"x": replace(wide["x"], amax=8.0)}))
    after, outcome = scales(bench, before)
    found = after.ranges["x"]
    assert found.amax == pytest.approx(4)  # half of it is the least that is tried
    assert found.method == "Mse() refined x0.50"
    assert found.sat_ratio == pytest.approx(1 / 32)
    assert outcome.notes == ("the range of 'x' times 0.50",)
    plain, better = (fresh_sqnr(bench, graph, d, run_graph) for d in (before, after))
    assert better == pytest.approx(plain + 6.02, abs=0.5)  # half the step; few samples


def test_what_helps_the_op_and_hurts_the_output_is_undone(graph_of, dataset, bench_of):
    """127 columns round to zero unless the last, which alone is an output, is clipped."""
    w = np.full((32, 128), 0.07, np.float32)
    w[:, -1] = 1
    graph = graph_of(
        "(float[N,32] x) => (float[N,1] y) <int64[1] a = {127}, int64[1] e = {128}, "
        "int64[1] axes = {1}> {[op] t = MatMul(x, w) y = Slice(t, a, e, axes)}",
        {"w": w},
    )
    bench = bench_of(graph, weights_alone(QuantSpec("int4-in-int8")), dataset(rows(32)))
    after, outcome = scales(bench, Draft(graph, Ranges("m", {})))
    assert after.codes == {}
    assert outcome.gains == {}
    assert outcome.undone == {"op": f"{LOWERS}: 'y'"}
    assert outcome.before == outcome.after


TWO = """(float[N,32] x) => (float[N,24] y) {
  a = Relu(x)  b = Neg(a)  [p] c = MatMul(a, w)  [q] d = MatMul(b, v)  y = Add(c, d)
}"""


def two(graph_of, dataset, bench_of, activations_alone):
    """A bench and a draft whose tied ranges are far too wide."""
    graph = graph_of(TWO, {"w": outlying(1), "v": outlying(2)})
    plan = replace(activations_alone(graph), tied=(("a", "b"),))
    wide = Range(20.0, "Mse()", 0.0, 0.0)
    bench = bench_of(graph, plan, dataset(rows(32)))
    return bench, Draft(graph, Ranges("m", {"a": wide, "b": wide}))


def test_ranges_that_are_tied_stay_equal(graph_of, dataset, bench_of, activations_alone):
    bench, draft = two(graph_of, dataset, bench_of, activations_alone)
    after, outcome = scales(bench, draft)
    assert after.ranges["a"].amax == after.ranges["b"].amax < 20
    assert set(outcome.gains) == {"p", "q"}


def test_a_range_that_another_op_reads_is_left_alone(
    graph_of, dataset, bench_of, activations_alone
):
    bench, draft = two(graph_of, dataset, bench_of, activations_alone)
    add = next(n.name for n in draft.graph.nodes if n.op == "Add")
    tied = (("a", "b", "c"),)
    plan = replace(bench.plan, edges={**bench.plan.edges, Edge(add, 0): QuantSpec()}, tied=tied)
    ranges = {**draft.ranges.tensors, "c": draft.ranges["a"]}
    wider = replace(draft, ranges=Ranges("m", ranges))
    after, _ = scales(replace(bench, plan=plan), wider)
    assert after.ranges == wider.ranges


def test_neither_the_order_of_samples_nor_workers_matter(
    graph_of, dataset, bench_of, activations_alone
):
    graph = graph_of(TWO, {"w": outlying(1), "v": outlying(2)})
    plan = activations_alone(graph)
    plan = replace(plan, edges={**plan.edges, Edge("p", 1): FOUR_BITS, Edge("q", 1): FOUR_BITS})
    x = rows(24)
    found = []
    for data, workers in ((dataset(x), 1), (dataset(x[::-1].copy()), 3)):
        bench = replace(bench_of(graph, plan, data), workers=workers)
        found.append(scales(bench, Draft(graph, bench.ranges(graph))))
    (one, said), (other, also) = found
    assert one.ranges == other.ranges
    assert one.codes.keys() == other.codes.keys() != set()
    assert all(np.array_equal(c.scale, other.codes[k].scale) for k, c in one.codes.items())
    assert said == also


SPECS = ("int8 per-channel axis 1", "int4 per-tensor", "int4 per-channel axis 0", "fp8 per-tensor",
         "int4 per-block 8 axis 0", "int4 per-block 8 axis 1", "int16 per-channel axis 1",
         "int4-in-fp8 per-channel axis 1")  # fmt: skip


@pytest.mark.parametrize("text", SPECS)
@pytest.mark.parametrize("scale_dtype", ["float32", "float16"])
def test_every_scale_is_positive_and_is_what_the_graph_computes_with(
    graph_of, dataset, bench_of, text, scale_dtype
):
    spec, w = QuantSpec.parse(text), outlying()
    w[:, 3] = 0
    graph = graph_of(LINEAR, {"w": w}, opset=21)
    bench = bench_of(graph, weights_alone(spec), dataset(rows(16)))
    bench = replace(bench, insert=replace(bench.insert, scale_dtype=scale_dtype))
    after, _ = scales(bench, Draft(graph, Ranges("m", {})))
    for codes in after.codes.values():
        assert np.all(np.isfinite(codes.scale))
        assert np.all(codes.scale > 0)
        np.testing.assert_array_equal(codes.scale, codes.scale.astype(scale_dtype))
        used = constant_of(node_by_name(bench.quantized(after))["op"].inputs[1])
        np.testing.assert_array_equal(used, dequantize(codes.codes, codes.scale, spec))


def test_codes_that_the_draft_has_are_kept(graph_of, dataset, bench_of):
    w = outlying()
    graph = graph_of(LINEAR, {"w": w})
    bench = bench_of(graph, weights_alone(FOUR_BITS), dataset(rows(16)))
    mine = {("w", FOUR_BITS): Codes(np.ones(24, np.float32), np.ones((32, 24), np.int32))}
    after, _ = scales(bench, Draft(graph, Ranges("m", {}), mine))
    assert after.codes is mine


def test_scales_that_are_best_are_not_tried(graph_of, dataset, bench_of):
    """Weights of two values, each a code."""
    w = np.random.default_rng(0).choice([-7.0, 7.0], (32, 24)).astype(np.float32)
    graph = graph_of(LINEAR, {"w": w})
    bench = bench_of(graph, weights_alone(FOUR_BITS), dataset(rows(16)))
    after, outcome = scales(bench, Draft(graph, Ranges("m", {})))
    assert after.codes == {}
    assert outcome.undone == {"op": NO_GAIN}


def test_a_draft_without_ranges_is_refused(graph_of, dataset, bench_of):
    graph = graph_of(LINEAR, {"w": outlying()})
    bench = bench_of(graph, weights_alone(FOUR_BITS), dataset(rows(16)))
    with pytest.raises(ValueError, match="after ranges"):
        scales(bench, Draft(graph))


def test_ends_of_asymmetric_ranges_are_scaled_together(
    graph_of, dataset, bench_of, activations_alone
):
    graph = graph_of(LINEAR, {"w": outlying()})
    plan = activations_alone(graph)
    plan = replace(plan, edges=dict.fromkeys(plan.edges, QuantSpec("uint8")))
    bench = bench_of(graph, plan, dataset(rows(32)))
    bench = replace(bench, read=lambda g, s: read_ranges(s, Max(), QuantSpec("uint8")))
    old = Range(30.0, "Max()", 0.0, 0.0, -10.0, 30.0)
    after, _ = scales(bench, Draft(graph, Ranges("m", {"x": old})))
    new = after.ranges["x"]
    assert new.low / old.low == pytest.approx(new.high / old.high)
    assert (new.low, new.high) == (-5.0, 15.0)
