"""Adaptive rounding learns codes and scales that fresh samples gain from, or leaves them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rounding_data import drawn, images

from onnxq.calib.methods import Max
from onnxq.calib.ranges import Ranges, read_ranges
from onnxq.numerics import dequantize, sqnr_db
from onnxq.passes.insert_qdq import Codes, InsertOptions, weight_scale
from onnxq.plan import Plan
from onnxq.recover.adaround import adaround, learned
from onnxq.recover.draft import Bench, Draft
from onnxq.recover.feedback import error
from onnxq.recover.keeping import LOWERS
from onnxq.recover.pipeline import asked, run
from onnxq.recover.products import products_of
from onnxq.recover.rounding import NO_GAIN, NO_JUDGE, round_weights
from onnxq.spec import Edge, QuantSpec

BODY = """(float[N,8,9,9] x) => (float[N,16] y) {
  [grouped] a = Conv<pads = [1,1,1,1], group = 2>(x, w1)  b = Relu(a)
  [deconv] c = ConvTranspose<strides = [2,2]>(b, w2)  d = Relu(c)
  [depthwise] e = Conv<pads = [1,1,1,1], group = 12>(d, w3)  f = Relu(e)
  g = GlobalAveragePool(f)  h = Flatten(g)
  [fc] i = Gemm<transB = 1>(h, w4)
  [mm] y = MatMul(i, w5)
}"""
SHAPES = {
    "w1": (16, 4, 3, 3), "w2": (16, 12, 2, 2), "w3": (12, 1, 3, 3), "w4": (16, 12), "w5": (16, 16)
}  # fmt: skip
NODES = {"grouped": "w1", "deconv": "w2", "depthwise": "w3", "fc": "w4", "mm": "w5"}
CHANNEL = {"grouped": 0, "deconv": 1, "depthwise": 0, "fc": 0, "mm": 1}


def weights(seed=0):
    return drawn(SHAPES, seed)


def inputs(samples, seed=0):
    return images(samples, 3, 8, seed)


def spec_of(node, dtype, granularity):
    if granularity == "channel":
        return QuantSpec(dtype, "channel", CHANNEL[node])
    if granularity == "block" and node in ("fc", "mm"):
        return QuantSpec(dtype, "block", 1 - CHANNEL[node], 4)
    return QuantSpec(dtype)


def plan_of(dtype="int4", granularity="channel", nodes=NODES):
    specs = {Edge(n, 1): spec_of(n, dtype, granularity) for n in nodes}
    return Plan("m", "tensorrt", specs)


def bench(graph, plan, data, **options):
    insert = options.pop("insert", InsertOptions())
    read = lambda g, stats: read_ranges(stats, Max(), QuantSpec(), plan.tied)  # noqa: E731
    return Bench(graph, plan, data, insert, read, **options)


def draft(graph, **more):
    return Draft(graph, Ranges("m", {}), **more)


@pytest.fixture
def network(graph_of):
    return graph_of(BODY, weights(), opset=21)


def test_fresh_samples_gain_over_rounding(network, dataset, run_graph):
    b = bench(network, plan_of(), dataset(inputs(64)))
    rounded, _ = round_weights(b, draft(network))
    better, outcome = adaround(b, draft(network))
    assert set(outcome.gains) == set(NODES)
    assert outcome.after["y"] > outcome.before["y"] + 3
    fresh = [{"x": x[None]} for x in inputs(32, seed=5)]

    def sqnr(d):
        made = b.quantized(d)
        rows = [np.concatenate([run_graph(g, f)[0] for f in fresh]) for g in (network, made)]
        return sqnr_db(*rows)

    assert sqnr(better) > sqnr(rounded) + 0.5


CASES = [
    pytest.param(dtype, granularity, id=f"{dtype}-{granularity}")
    for dtype in ("int8", "int4", "int4-in-int8", "fp8")
    for granularity in ("tensor", "channel", "block")
    if not (dtype == "fp8" and granularity == "block")
]


@pytest.mark.parametrize("paired", [0, 64], ids=["many-inputs", "few-inputs"])
@pytest.mark.parametrize(("dtype", "granularity"), CASES)
def test_the_error_of_every_form_falls(network, dataset, monkeypatch, dtype, granularity, paired):
    for module in ("adaround", "descent"):
        monkeypatch.setattr(f"onnxq.recover.{module}.PAIRED", paired)
    plan = plan_of(dtype, granularity)
    b = bench(network, plan, dataset(inputs(8)))
    products, undone = products_of(network, plan)
    assert len(products) == len(NODES)
    assert undone == {}
    rng = np.random.default_rng(0)
    for product in products:
        groups, _, count = product.form.matrix
        x = rng.standard_normal((groups, count, 3 * count)) + 1
        h = x @ x.swapaxes(1, 2)
        old, new = learned(product, h, b, draft(network))
        w = product.form.matrices(product.values.astype(np.float64))
        before, after = (
            error(product.matrices(c.scale) * product.form.matrices(c.codes) - w, h).sum()
            for c in (old, new)
        )
        assert after < before
        row = product.spec.row
        assert new.scale.dtype == np.float32
        assert new.scale.shape == old.scale.shape
        assert new.scale.min() > 0
        assert row.qmin <= new.codes.min() <= new.codes.max() <= row.qmax


@pytest.mark.parametrize(("dtype", "granularity"), CASES)
def test_codes_are_what_the_model_computes_with(
    graph_of, network, dataset, run_graph, dtype, granularity
):
    b = bench(network, plan_of(dtype, granularity), dataset(inputs(8)))
    found, _ = adaround(b, draft(network))
    assert found.codes
    values = weights()
    for (name, spec), codes in found.codes.items():
        values[name] = dequantize(codes.codes, codes.scale, spec)
    kept = [node for node, name in NODES.items() if name in {w for w, _ in found.codes}]
    alone = bench(network, plan_of(dtype, granularity, kept), dataset(inputs(8)))
    feeds = {"x": inputs(1, seed=3)}
    (expected,) = run_graph(graph_of(BODY, values, opset=21), feeds)
    # float32 sums in another order
    np.testing.assert_allclose(
        run_graph(alone.quantized(found), feeds)[0], expected, rtol=1e-4, atol=1e-3
    )


def test_the_order_of_samples_and_workers_do_not_matter(network, dataset):
    x = inputs(40)
    one, said = adaround(bench(network, plan_of(), dataset(x), workers=1), draft(network))
    backwards = bench(network, plan_of(), dataset(x[::-1].copy()), workers=3)
    other, also_said = adaround(backwards, draft(network))
    assert said.as_dict() == also_said.as_dict()
    assert one.codes.keys() == other.codes.keys()
    for weight, codes in one.codes.items():
        np.testing.assert_array_equal(codes.codes, other.codes[weight].codes)
        np.testing.assert_array_equal(codes.scale, other.codes[weight].scale)


def test_a_matrix_without_room_leaves_its_weight_as_it_was(network, dataset):
    tight = bench(network, plan_of(), dataset(inputs(8)), max_memory=2 * 36 * 36 * 60)
    found, outcome = adaround(tight, draft(network))
    assert "--max-memory" in outcome.undone["grouped"]
    assert "w1" not in {name for name, _ in found.codes}
    assert "depthwise" in outcome.gains


def test_it_goes_on_from_codes_that_are_there(network, dataset):
    b = bench(network, plan_of(), dataset(inputs(48)))
    chosen = [*asked(["round"], False), *asked(["adaround"], False)]
    after, (first, second) = run(chosen, b, draft(network))
    assert second.before == first.after
    assert second.after["y"] >= first.after["y"]
    assert after.codes


def test_codes_that_hurt_an_output_are_undone(graph_of, dataset):
    """The output reads one position, where inputs that are equal elsewhere have opposite signs."""
    rng = np.random.default_rng(0)
    w = np.full((16, 16, 1, 1), 0.4 / 127, np.float32)
    w[range(16), range(16)] = 1
    w[range(0, 16, 2), range(1, 16, 2)] = 0  # what is lost to nearest adds up to nothing there
    w[range(1, 16, 2), range(0, 16, 2)] = 0
    graph = graph_of(
        "(float[N,16,9,9] x) => (float[N,16,1,1] y) <int64[2] a = {0,0}, int64[2] e = {1,1}, "
        "int64[2] axes = {2,3}> {[op] t = Conv(x, w) y = Slice(t, a, e, axes)}",
        {"w": w},
    )
    x = rng.uniform(0, 1, (16, 1, 9, 9)).repeat(16, axis=1).astype(np.float32)
    x[:, 1::2, 0, 0] *= -1
    plan = Plan("m", "tensorrt", {Edge("op", 1): QuantSpec("int8", "channel", 0)})
    found, outcome = adaround(bench(graph, plan, dataset(x)), draft(graph))
    assert found.codes == {}
    assert outcome.undone == {"op": f"{LOWERS}: 'y'"}
    assert outcome.before == outcome.after


def test_weights_on_the_grid_are_left_alone(graph_of, dataset):
    w = np.random.default_rng(0).integers(-127, 128, (16, 16)).astype(np.float32)
    w[0] = 127
    graph = graph_of("(float[N,16] x) => (float[N,16] y) {[op] y = MatMul(x, w)}", {"w": w})
    x = np.random.default_rng(1).standard_normal((8, 16)).astype(np.float32)
    plan = Plan("m", "tensorrt", {Edge("op", 1): QuantSpec("int8", "channel", 1)})
    found, outcome = adaround(bench(graph, plan, dataset(x)), draft(graph))
    assert found.codes == {}
    assert outcome.undone == {"op": NO_GAIN}


def test_without_an_output_to_judge_by_nothing_is_learned(graph_of, dataset):
    graph = graph_of(
        "(float[N,16] x) => (int64[N,1] y) {[op] t = MatMul(x, w) y = ArgMax<axis = 1>(t)}",
        {"w": np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)},
    )
    x = np.random.default_rng(1).standard_normal((8, 16)).astype(np.float32)
    plan = Plan("m", "tensorrt", {Edge("op", 1): QuantSpec("int4-in-int8", "channel", 1)})
    found, outcome = adaround(bench(graph, plan, dataset(x)), draft(graph))
    assert found.codes == {}
    assert outcome.notes == (NO_JUDGE,)


def test_scales_have_the_type_that_the_graph_will_hold(network, dataset):
    b = bench(network, plan_of(), dataset(inputs(8)), insert=InsertOptions(scale_dtype="float16"))
    found, _ = adaround(b, draft(network))
    assert found.codes
    for codes in found.codes.values():
        np.testing.assert_array_equal(codes.scale, codes.scale.astype(np.float16))


def test_a_fixed_scale_stays(network, dataset):
    plan = Plan("m", "onnxruntime", {Edge("mm", 1): QuantSpec("fixed88")})
    b = bench(network, plan, dataset(inputs(8)))
    (product,), _ = products_of(network, plan)
    x = np.random.default_rng(0).standard_normal((1, 16, 40))
    _, new = learned(product, x @ x.swapaxes(1, 2), b, draft(network))
    np.testing.assert_array_equal(new.scale, weight_scale(product.values, product.spec, b.insert))


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_a_single_sample_is_enough_to_run(network, dataset, samples):
    _, outcome = adaround(bench(network, plan_of(), dataset(inputs(samples))), draft(network))
    assert outcome.after["y"] >= outcome.before["y"]


def test_codes_of_zeros_are_left_behind(network, dataset):
    spec = spec_of("mm", "int4", "channel")
    scale = weight_scale(weights()["w5"], spec, InsertOptions())
    given = Codes(scale, np.zeros(SHAPES["w5"], np.int32))
    b = bench(network, plan_of(nodes=["mm"]), dataset(inputs(8)))
    found, _ = adaround(b, replace(draft(network), codes={("w5", spec): given}))
    assert found.codes["w5", spec].codes.any()
