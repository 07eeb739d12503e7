"""Channels of very different sizes in front of a layer get factors, where the outputs gain."""

from __future__ import annotations

import re

import numpy as np
import onnxruntime as ort
import pytest

from onnxq import api
from onnxq.errors import DataError
from onnxq.model.graph import save, to_proto
from onnxq.numerics import sqnr_db
from onnxq.pipeline.config import Config
from onnxq.recover.channel_scales import ChannelReader, best_offer, scale_channels
from onnxq.recover.channel_sizes import Sizes
from onnxq.recover.draft import Draft
from onnxq.targets import tensorrt
from onnxq.targets.options import PlanOptions

C, SIDE = 24, 12
GAIN = np.exp(np.linspace(np.log(1 / 300), 0, C)).astype(np.float32)  # channels differ 300:1
NUMBERS = """three = Constant<value = float {3.0}>()  zero = Constant<value = float {0.0}>()
    six = Constant<value = float {6.0}>()  sixth = Constant<value = float {0.16666667}>()
    half = Constant<value = float {0.5}>()  one = Constant<value = float {1.0}>()"""
GATE = "a = Add(p, three)  c = Clip(a, zero, six)"
FORMS = {
    "HardSwish, divided at the end": f"{GATE}  m = Mul(p, c)  h = Div(m, six)",
    "HardSwish, divided before": f"{GATE}  d = Div(c, six)  h = Mul(p, d)",
    "HardSwish, multiplied at the end": f"{GATE}  m = Mul(c, p)  h = Mul(sixth, m)",
    "HardSwish of Min and Max": "a = Add(p, three)  b = Max(a, zero)  c = Min(b, six)"
    "  m = Mul(c, p)  h = Mul(m, sixth)",
    "HardSwish, cut at both ends last": "a = Add(p, three)  b = Max(a, zero)  c = Min(b, six)"
    "  d = Div(c, six)  h = Mul(d, p)",
    "HardSigmoid and a factor": "s = HardSigmoid<alpha = 0.1666667>(p)  m = Mul(p, s)"
    "  h = Mul(m, half)",
    "an affine block": f"{GATE}  m = Mul(p, c)  d = Div(m, six)  e = Mul(d, half)"
    "  h = Add(e, shift)",
    "an affine block of the op": "s = HardSwish(p)  e = Mul(s, half)  h = Add(shift, e)",
    "BatchNormalization": "s = Sigmoid(p)  m = Mul(p, s)"
    "  h = BatchNormalization(m, ones, gain, zeros, ones)",
    "InstanceNormalization": "h = InstanceNormalization(p, gain, zeros)",
    "Relu": "h = Relu(p)",
}


def weights(rng, form="Relu", gain=GAIN):
    """Of a Conv that writes channels of the sizes `gain`, a depthwise Conv that undoes them, and a
    Conv behind it."""
    made = {
        "pw": rng.standard_normal((C, C, 1, 1)) / C**0.5 * gain[:, None, None, None] * 8,
        "dw": rng.standard_normal((C, 1, 3, 3)) / gain[:, None, None, None] / 8,
        "head": rng.standard_normal((8, C, 1, 1)) / C**0.5,
        "ones": np.ones(C),
        "zeros": np.zeros(C),
        "gain": gain,
        "shift": gain[:, None, None],
    }
    kept = {"pw", "dw", "head", *re.findall(r"\w+", FORMS[form])}
    return {n: np.asarray(v, np.float32) for n, v in made.items() if n in kept}


DEPTHWISE = "[dw] t = Conv<group = 24, pads = [1, 1, 1, 1]>(h, dw)"


def body(form="HardSwish, divided at the end", behind=DEPTHWISE, outputs="(y)"):
    return f"""(float[N,24,12,12] x) => {outputs} {{
        {NUMBERS}
        [pw] p = Conv(x, pw)  {FORMS[form]}  {behind}  [head] y = Conv(t, head)}}"""


def images(samples, seed):
    x = np.random.default_rng(seed).standard_normal((samples, C, SIDE, SIDE))
    return x.astype(np.float32)


def fresh_sqnr(bench, graph, run_graph):
    """SQNR in dB over samples that the bench has not seen."""
    x = images(8, seed=77)
    quantized = bench.quantized(Draft(graph, bench.ranges(graph)))
    return sqnr_db(*(run_graph(g, {"x": x})[0] for g in (bench.graph, quantized)))


def exactness(a, b, run_graph):
    x = images(4, seed=5)
    return sqnr_db(*(run_graph(g, {"x": x})[0].astype(np.float64) for g in (a, b)))


@pytest.fixture
def scaled(planned, dataset, bench_of):
    """(bench, draft, outcome) of a body."""

    def make(body, weights):
        graph, plan = planned(body, weights)
        bench = bench_of(graph, plan, dataset(images(16, seed=0)))
        return bench, *scale_channels(bench, Draft(graph))

    return make


@pytest.mark.parametrize("form", FORMS)
def test_channels_300_to_1_cost_nothing_once_they_are_scaled(form, scaled, run_graph, rng):
    bench, draft, outcome = scaled(body(form), weights(rng, form))
    gained = fresh_sqnr(bench, draft.graph, run_graph) - fresh_sqnr(bench, bench.graph, run_graph)
    assert gained > 10  # dB
    assert "dw" in outcome.gains
    assert exactness(bench.graph, draft.graph, run_graph) > 120  # dB: each factor rounds once
    assert [n.name for n in draft.graph.nodes] == [n.name for n in bench.graph.nodes]


def test_a_channel_that_a_residual_reads_too_is_left_alone(scaled, rng):
    behind = f"{DEPTHWISE.replace(' t =', ' u =')}  t = Add(u, h)"
    bench, draft, outcome = scaled(body(behind=behind), weights(rng))
    assert draft.graph is bench.graph
    assert not outcome.gains


def test_an_output_of_the_model_is_left_alone(scaled, rng):
    bench, draft, outcome = scaled(body(outputs="(y, h)"), weights(rng))
    assert draft.graph is bench.graph
    assert not outcome.gains


def test_a_reader_whose_weight_is_computed_keeps_the_tensor_as_it_is(scaled, rng):
    behind = f"""{DEPTHWISE.replace(" t =", " u =")}
        g = GlobalAveragePool(p)  k = ReduceMean<axes = [0], keepdims = 1>(g)
        v = Conv(h, k)  t = Add(u, v)"""
    bench, draft, outcome = scaled(body(behind=behind), weights(rng))
    assert draft.graph is bench.graph
    assert not outcome.gains


def test_a_weight_that_another_conv_reads_keeps_its_values_there(scaled, run_graph, rng):
    behind = (
        f"{DEPTHWISE.replace(' t =', ' u =')}  v = Conv<group = 24, pads = [1, 1, 1, 1]>(x, dw)"
    )
    bench, draft, outcome = scaled(body(behind=f"{behind}  t = Add(u, v)"), weights(rng))
    assert "dw" in outcome.gains
    assert exactness(bench.graph, draft.graph, run_graph) > 120


def test_channels_of_one_size_stay_as_they_are_to_the_bit(scaled, rng):
    bench, draft, outcome = scaled(body(), weights(rng, gain=np.ones(C, np.float32)))
    assert draft.graph is bench.graph
    assert not outcome.gains
    assert not outcome.undone


def test_a_channel_that_is_always_zero_has_no_factor(scaled, run_graph, rng):
    made = weights(rng)
    made["pw"][3] = 0
    bench, draft, outcome = scaled(body("Relu"), made)
    assert "dw" in outcome.gains
    assert exactness(bench.graph, draft.graph, run_graph) > 120
    nodes = {n.name: n for n in draft.graph.nodes}
    np.testing.assert_array_equal(nodes["dw"].inputs[1].values[3], made["dw"][3])


def test_scaled_again_nothing_is_left_to_gain(scaled, planned, dataset, bench_of, rng):
    _, draft, _ = scaled(body(), weights(rng))
    graph = draft.graph
    again, outcome = scale_channels(
        bench_of(graph, tensorrt.plan(graph, PlanOptions(), "m"), dataset(images(16, seed=0))),
        Draft(graph),
    )
    assert again.graph is graph
    assert not outcome.gains


def test_the_graph_of_the_draft_is_not_changed(planned, dataset, bench_of, rng):
    graph, plan = planned(body(), weights(rng))
    before = to_proto(graph).SerializeToString(deterministic=True)
    draft, _ = scale_channels(bench_of(graph, plan, dataset(images(16, seed=0))), Draft(graph))
    assert draft.graph is not graph
    assert to_proto(graph).SerializeToString(deterministic=True) == before


def test_the_order_of_the_samples_does_not_matter(planned, drafts_by_order, rng):
    one, other = drafts_by_order(scale_channels, *planned(body(), weights(rng)), images(16, seed=0))
    assert one == other


def test_codes_in_fp8_follow_the_size_of_a_value_and_need_no_factors(
    planned, dataset, bench_of, rng
):
    graph, _ = planned(body(), weights(rng))
    plan = tensorrt.plan(graph, PlanOptions(scheme="fp8"), "m")
    before = Draft(graph)
    after, outcome = scale_channels(bench_of(graph, plan, dataset(images(8, seed=0))), before)
    assert after is before
    assert not outcome.gains


def test_a_depthwise_conv_takes_the_sizes_of_its_channels_as_factors():
    rng = np.random.default_rng(0)
    sizes = Sizes(GAIN.astype(np.float64), (GAIN / 3.0) ** 2)
    weight = np.abs(rng.standard_normal((C, 1, 1)))
    offer = best_offer([ChannelReader(9 * weight**2, weight, 9, 127, 127)], sizes)
    np.testing.assert_allclose(offer.scale * sizes.amax[0] / offer.scale[0], sizes.amax, rtol=1e-9)
    # then a step is the same share of each channel: a gain in dB of the largest over each size
    assert offer.gain == pytest.approx(np.mean(20 * np.log10(1 / GAIN)), abs=3)


def test_factors_of_other_layers_weigh_what_their_weights_pay():
    sizes = Sizes(np.array([1.0, 1.0, 1.0, 100.0]), np.array([0.1, 0.1, 0.1, 1000.0]))
    reader = ChannelReader(np.ones((1, 2, 4)), np.ones((1, 2, 4)), 1, 127, 127)
    offer = best_offer([reader], sizes)
    assert not offer.free
    one = np.ones(4)
    assert reader.noise(sizes, offer.scale).mean() <= reader.noise(sizes, one).mean()


@pytest.fixture
def files(graph_of, tmp_path):
    """A model whose channels differ, and calibration data; as files."""
    graph = graph_of(body(), weights(np.random.default_rng(0)))
    save(graph, tmp_path / "m.onnx")
    for name, seed in (("a", 0), ("b", 1)):
        np.save(tmp_path / f"{name}.npy", images(32, seed))
    return tmp_path


def quantized(files, data="a", stats=None, **options):
    config = Config(check_samples=0, **options)
    model, calib = files / "m.onnx", [str(files / f"{data}.npy")]
    return api.quantize(model, calib, config, stats_from=stats)


def sqnr_of(result, files):
    x = images(8, seed=77)
    models = ((files / "m.onnx").read_bytes(), to_proto(result.graph).SerializeToString())
    sessions = [ort.InferenceSession(m, providers=["CPUExecutionProvider"]) for m in models]
    ref, test = (s.run(None, {"x": x})[0] for s in sessions)
    return sqnr_db(ref, test.astype(np.float32))


def test_unasked_a_model_with_such_channels_is_mended(files):
    default, plain = quantized(files), quantized(files, recover="bias")
    assert sqnr_of(default, files) > sqnr_of(plain, files) + 10
    assert default.manifest["recovered"][0]["algorithm"] == "channel scales"
    assert len(default.graph.nodes) == len(plain.graph.nodes)


def test_in_fp16_nothing_has_to_stay_in_fp32(files):
    half, whole = quantized(files, high_precision="fp16"), quantized(files)
    assert half.manifest["nodes"]["float"] == whole.manifest["nodes"]["float"]
    assert not half.manifest["kept_fp32"]
    assert sqnr_of(half, files) > sqnr_of(whole, files) - 1  # FP16 has 11 bits, INT8 has 8


def test_with_statistics_of_the_model_as_it_is_nothing_is_scaled_and_it_is_said(files):
    source = api.prepare(files / "m.onnx")
    plan = api.plan(source)
    stats = api.calibrate(source, plan, api.data(source, [str(files / "a.npy")]))
    kept, plain = quantized(files, stats=stats), quantized(files, stats=stats, recover="bias")
    assert to_proto(kept.graph) == to_proto(plain.graph)
    assert "leave out --stats (nodes: 1)" in kept.manifest["recovered"][0]["notes"][0]
    with pytest.raises(DataError, match="leave out --stats or --ranges, or those recoveries"):
        quantized(files, stats=stats, recover="channels,bias")


def test_statistics_of_the_scaled_model_serve_it_again_and_no_other(files):
    first = quantized(files)
    assert to_proto(quantized(files, stats=first.stats).graph) == to_proto(first.graph)
    with pytest.raises(DataError, match="the statistics were counted on model"):
        quantized(files, data="b", stats=first.stats)
