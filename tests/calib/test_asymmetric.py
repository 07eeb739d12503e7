"""uint8 from histogram to ONNX Runtime: every number against the raw values."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxq.calib.entropy import LINEAR_BINS, Entropy, divergences, linear_counts
from onnxq.calib.gated import GatedMse, gated, read_by_gates, slope_of
from onnxq.calib.histogram import histogram_of
from onnxq.calib.max import Max
from onnxq.calib.mse import Mse
from onnxq.calib.percentile import Percentile
from onnxq.calib.quant_error import expected_error, limit_of, sat_ratio
from onnxq.calib.ranges import Range, Ranges, read_ranges
from onnxq.calib.stats import Stats
from onnxq.errors import DataError
from onnxq.numerics import affine_of, dequantize, fake_quant, grid_of, quantize
from onnxq.passes.prepare import prepare
from onnxq.spec import QuantSpec

UINT8 = QuantSpec("uint8")
RNG = np.random.default_rng(0)
N = 100_000
DATA = {
    "normal": RNG.normal(size=N),
    "shifted": RNG.normal(2, 1, size=N),
    "rectified": np.maximum(RNG.normal(size=N), 0),
    "negative": -RNG.exponential(size=N),
    "swish": gated("silu", RNG.normal(size=N) * 4),
    "uniform": RNG.uniform(-1, 3, size=N),
    "one outlier": np.append(RNG.normal(size=N), 100.0),
}  # fmt: skip
DATA = {name: x.astype(np.float32) for name, x in DATA.items()}
LOWS, HIGHS = st.floats(-1e3, 0, width=32), st.floats(0, 1e3, width=32)


def squared_error(x, limit):
    return float(((x.astype(np.float64) - fake_quant(x, limit, UINT8)) ** 2).mean())


@given(low=LOWS, high=HIGHS)
def test_zero_has_a_code_and_the_ends_are_off_by_half_a_step_at_most(low, high):
    scale, zero_point = affine_of(low, high, UINT8)
    assert 0 <= zero_point <= 255
    ends = np.float32([low, 0, high])
    back = fake_quant(ends, (low, high), UINT8)
    assert back[1] == 0
    # half a step, and the rounding of the scale itself to float32
    assert np.all(np.abs(back - ends) <= 0.5001 * float(scale))


def test_a_range_that_starts_at_zero_has_zero_point_zero_and_steps_of_a_255th():
    scale, zero_point = affine_of(0.0, 6.0, UINT8)
    assert (zero_point, float(scale)) == (0, float(np.float32(6 / 255)))


def test_an_amax_is_both_ends_to_uint8_and_ends_are_their_larger_magnitude_to_int8():
    assert grid_of(2.0, UINT8) == affine_of(-2.0, 2.0, UINT8)
    scale, zero_point = grid_of((-1.0, 3.0), QuantSpec())
    assert (float(scale), zero_point) == (float(np.float32(3 / 127)), 0)


@pytest.mark.parametrize("name", DATA)
def test_codes_match_onnx_runtime_bit_for_bit(name):
    x = DATA[name]
    scale, zero_point = affine_of(float(x.min()), float(x.max()), UINT8)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N] x, float s, uint8 z) =>'
        " (uint8[N] q, float[N] y) {q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)}"
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    codes, values = session.run(None, {"x": x, "s": scale, "z": np.array(zero_point, np.uint8)})
    ours = quantize(x, scale, UINT8, zero_point)
    np.testing.assert_array_equal(ours, codes)
    np.testing.assert_array_equal(dequantize(ours, scale, UINT8, zero_point), values)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("name", DATA)
def test_the_expected_error_and_the_clipping_are_those_of_the_raw_values(name, share):
    x = DATA[name]
    histogram = histogram_of(x)
    limit = limit_of(histogram, share * float(np.abs(x).max()), UINT8)
    # 100,000 values sample the error to about 1 / sqrt(100,000) = 0.3%, an outlier of them less
    assert expected_error(histogram, limit, UINT8) == pytest.approx(
        squared_error(x, limit), rel=0.02
    )
    outside = np.mean((x < limit[0]) | (x > limit[1]))
    # values are taken as evenly spread in a bin, which holds up to 1% of them
    assert sat_ratio(histogram, limit) == pytest.approx(outside, abs=2e-3)


@pytest.mark.parametrize("name", DATA)
def test_mse_is_as_good_as_trying_every_amax_on_the_raw_values(name):
    x = DATA[name]
    histogram = histogram_of(x)
    found = Mse()(histogram, UINT8)
    tried = np.abs(x).max() * 2.0 ** (-np.arange(0, 8, 1 / 8))
    best = min(squared_error(x, limit_of(histogram, float(a), UINT8)) for a in tried)
    # values are taken as evenly spread in their bins: 1/128 octave, where 100,000 are a sample
    assert squared_error(x, found) <= 1.01 * best


def test_mse_keeps_the_few_values_over_zero_whole():
    x = np.append(RNG.uniform(-30, -5, N), RNG.uniform(0, 2, 20)).astype(np.float32)
    assert Mse()(histogram_of(x), UINT8)[1] == x.max()


@pytest.mark.parametrize("method", [Max(), Percentile(99.9), Mse(), Entropy()], ids=repr)
@pytest.mark.parametrize("name", DATA)
def test_ends_have_zero_between_them_and_reach_no_further_than_the_values(name, method):
    x = DATA[name]
    found = read_ranges(Stats("m", {"x": histogram_of(x)}, 1), method, UINT8)["x"]
    assert min(float(x.min()), 0) <= found.low <= 0 <= found.high <= max(float(x.max()), 0)
    assert found.amax == max(-found.low, found.high)
    assert found.limit == (found.low, found.high)


def test_entropy_gives_a_rectified_tensor_all_256_levels():
    x = DATA["rectified"]
    both = histogram_of(x, -x)
    int8 = QuantSpec()  # 128 levels for the magnitudes, as uint8 has for both signs
    assert Entropy()(both, UINT8) == Entropy()(both, int8)
    ends = np.arange(256, LINEAR_BINS + 1, 8)
    divergence = divergences(linear_counts(histogram_of(x)), ends, 256)
    best = ends[divergence <= divergence.min() + 1e-12][-1]
    assert Entropy()(histogram_of(x), UINT8) == x.max() * best / LINEAR_BINS


def test_ends_are_saved_and_old_files_without_them_are_read(tmp_path):
    ranges = Ranges(
        "m", {"a": Range(1.0, "Max()", 0.0, 0.1), "b": Range(2.0, "Max()", 0.0, 0.1, -1.0, 2.0)}
    )
    ranges.save(tmp_path / "r.json")
    assert Ranges.load(tmp_path / "r.json") == ranges
    text = ranges.to_json()
    assert '"a": {"amax": 1.0, "method": "Max()", "sat_ratio": 0.0, "expected_error": 0.1}' in text
    assert ranges.limits == {"a": 1.0, "b": (-1.0, 2.0)}
    (tmp_path / "r.json").write_text(text.replace('"low": -1.0', '"low": 0.5'))
    with pytest.raises(DataError, match="have 0 between them"):
        Ranges.load(tmp_path / "r.json")


@pytest.mark.parametrize("gate", ["silu", "hardswish"])
@pytest.mark.parametrize("spread", [1.0, 4.0, 30.0])
def test_the_range_of_what_a_gate_reads_is_best_behind_it(spread, gate):
    x = (RNG.normal(size=N) * spread).astype(np.float32)
    histogram = histogram_of(x)

    def behind(limit):
        off = gated(gate, x) - gated(gate, fake_quant(x, limit, UINT8).astype(np.float64))
        return float((off**2).mean())

    found = GatedMse(gate)(histogram, UINT8)
    best = min(behind((x.min() * a, x.max())) for a in 2.0 ** (-np.arange(0, 8, 1 / 4)))
    # the slope stands for the function within a step: off where a step is as wide as its bend
    assert behind(found) <= 1.1 * best
    assert spread < 30 or behind(found) < 0.5 * behind(Mse()(histogram, UINT8))


@pytest.mark.parametrize("gate", ["silu", "hardswish"])
def test_the_slope_of_a_gate_is_its_derivative(gate):
    x = np.linspace(-9, 9, 1001)
    h = 1e-6
    numeric = (gated(gate, x + h) - gated(gate, x - h)) / (2 * h)
    np.testing.assert_allclose(slope_of(gate, x), numeric, atol=1e-6)  # no bend is hit


def test_symmetric_specs_and_one_sided_tensors_have_nothing_to_clip(graph_of):
    for x, spec in ((DATA["normal"], QuantSpec()), (DATA["rectified"], UINT8)):
        assert GatedMse()(histogram_of(x), spec) == Mse()(histogram_of(x), spec)


GATES = {
    "{s = Sigmoid(x) y = Mul(s, x)}": {"x": "silu"},
    "{s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, s)}": {"x": "hardswish"},
    "{s = HardSigmoid(x) y = Mul(x, s)}": {},
    "{y = HardSwish(x)}": {"x": "hardswish"},
    "{a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)}": {"x": "hardswish"},
    "{a = Add(x, six) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)}": {},
    "{s = Sigmoid(x) m = Mul(s, x) y = Add(m, x)}": {},
    "{s = Sigmoid(x) e = Exp(x) y = Mul(s, e)}": {},
}


@pytest.mark.parametrize("body", GATES)
def test_a_gate_is_known_by_the_product_with_what_it_reads(graph_of, body):
    constants = {n: np.float32(v) for n, v in (("three", 3), ("zero", 0), ("six", 6))}
    graph = prepare(graph_of(f"(float[4] x) => (float[4] y) {body}", constants))
    assert read_by_gates(graph) == GATES[body]
