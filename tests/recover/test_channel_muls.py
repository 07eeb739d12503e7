"""Activations without a constant in front of depthwise Convs: a Mul takes the factors there."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq import api
from onnxq.model.graph import save
from onnxq.numerics import sqnr_db
from onnxq.pipeline.config import Config
from onnxq.recover.channel_scales import scale_channels
from onnxq.recover.draft import Draft
from onnxq.recover.smooth import smooth
from onnxq.targets import onnxruntime, tensorrt
from onnxq.targets.options import PlanOptions

C = 24
FORMS = {
    "HardSwish": "h = HardSwish(p)",
    "HardSigmoid": "s = HardSigmoid<alpha = 0.1666667>(p)  h = Mul(p, s)",
    "SiLU": "s = Sigmoid(p)  h = Mul(p, s)",
    "SiLU, the gate first": "s = Sigmoid(p)  h = Mul(s, p)",
}
DEPTHWISE = "[dw] t = Conv<group = 24, pads = [1, 1, 1, 1]>(h, dw)"


def body(form="HardSwish", behind=DEPTHWISE, outputs="(y)"):
    return f"""(float[N,24,12,12] x) => {outputs} {{
        [pw] p = Conv(x, pw)  {FORMS[form]}  {behind}  [head] y = Conv(t, head)}}"""


def weights(rng, apart=300.0, depthwise=True):
    """Of a Conv that writes channels of sizes that are `apart`, one that undoes it, and a last."""
    gain = np.geomspace(1 / apart, 1, C)
    by = gain[:, None, None, None] if depthwise else gain[:, None, None]
    made = {
        "pw": rng.standard_normal((C, C, 1, 1)) / C**0.5 * gain[:, None, None, None] * 8,
        "dw": rng.standard_normal((C, 1, 3, 3) if depthwise else (C, C, 1, 1)) / by / 8,
        "head": rng.standard_normal((8, C, 1, 1)) / C**0.5,
    }
    return {n: v.astype(np.float32) for n, v in made.items()}


def images(samples, seed):
    x = np.random.default_rng(seed).standard_normal((samples, C, 12, 12))
    return x.astype(np.float32)


@pytest.fixture
def scaled(planned, dataset, bench_of):
    """(bench, draft, outcome) of a body."""

    def make(body, weights, target=tensorrt):
        graph, _ = planned(body, weights)
        plan = target.plan(graph, PlanOptions(), "m")
        bench = bench_of(graph, plan, dataset(images(16, seed=0)))
        return bench, *scale_channels(bench, Draft(graph))

    return make


@pytest.mark.parametrize("form", FORMS)
def test_channels_300_to_1_cost_nothing_once_a_mul_has_their_factors(form, scaled, run_graph, rng):
    bench, draft, outcome = scaled(body(form), weights(rng))
    x = {"x": images(8, seed=77)}
    ref, exact = (run_graph(g, x)[0].astype(np.float64) for g in (bench.graph, draft.graph))
    assert sqnr_db(ref, exact) > 120  # dB: each factor rounds once
    before, after = (
        sqnr_db(ref, run_graph(bench.quantized(Draft(g, bench.ranges(g))), x)[0])
        for g in (bench.graph, draft.graph)
    )
    assert after > before + 10  # dB
    assert "dw" in outcome.gains
    assert len(draft.graph.nodes) == len(bench.graph.nodes) + 1
    assert outcome.notes[0].endswith("in an engine: 1")


def test_what_a_residual_reads_too_gets_no_mul(scaled, rng):
    behind = f"{DEPTHWISE.replace(' t =', ' u =')}  t = Add(u, h)"
    bench, draft, outcome = scaled(body(behind=behind), weights(rng))
    assert draft.graph is bench.graph
    assert not outcome.gains


def test_an_output_of_the_model_stays_in_front_of_the_mul(scaled, run_graph, rng):
    bench, draft, outcome = scaled(body(outputs="(y, h)"), weights(rng))
    assert "dw" in outcome.gains
    before, after = (run_graph(g, {"x": images(2, seed=5)})[1] for g in (bench.graph, draft.graph))
    np.testing.assert_array_equal(before, after)


def test_channels_that_differ_little_get_no_mul(scaled, rng):
    bench, draft, outcome = scaled(body(), weights(rng, apart=8.0))
    assert draft.graph is bench.graph
    assert not outcome.undone  # nothing was tried


def test_where_no_conv_is_depthwise_there_is_no_mul(scaled, rng):
    bench, draft, outcome = scaled(
        body(behind="[dw] t = Conv(h, dw)"), weights(rng, depthwise=False)
    )
    assert draft.graph is bench.graph
    assert not outcome.undone


def test_onnx_runtime_would_run_the_mul_by_itself_and_gets_none(scaled, rng):
    bench, draft, _ = scaled(body(), weights(rng), onnxruntime)
    assert draft.graph is bench.graph


def test_scaled_again_nothing_is_left_to_gain(scaled, dataset, bench_of, rng):
    _, draft, _ = scaled(body(), weights(rng))
    plan = tensorrt.plan(draft.graph, PlanOptions(), "m")
    again, outcome = scale_channels(
        bench_of(draft.graph, plan, dataset(images(16, seed=0))), Draft(draft.graph)
    )
    assert again.graph is draft.graph
    assert not outcome.gains


def test_smoothing_puts_no_mul_in_front_of_convs(scaled, rng):
    bench, _, _ = scaled(body(), weights(rng))
    draft, _ = smooth(bench, Draft(bench.graph))
    assert draft.graph is bench.graph


@pytest.mark.parametrize("high_precision", ["fp32", "fp16"])
def test_unasked_a_model_with_such_channels_is_mended(high_precision, graph_of, tmp_path):
    save(graph_of(body("SiLU"), weights(np.random.default_rng(0))), tmp_path / "m.onnx")
    np.save(tmp_path / "a.npy", images(32, seed=0))
    default, plain = (
        api.quantize(
            tmp_path / "m.onnx",
            [str(tmp_path / "a.npy")],
            Config(recover=recover, high_precision=high_precision),
        )
        for recover in ("auto", "bias")
    )
    assert default.agreement["y"].sqnr_db > plain.agreement["y"].sqnr_db + 10
    assert default.manifest["nodes"]["quantized"] == plain.manifest["nodes"]["quantized"]
    assert not default.manifest["kept_fp32"]
