"""Calibration methods: each against an oracle that reads the raw values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxq.calib.entropy import LINEAR_BINS, Entropy, divergences, linear_counts
from onnxq.calib.gated import GatedMse
from onnxq.calib.histogram import EMPTY, histogram_of
from onnxq.calib.max import Max
from onnxq.calib.methods import Auto, method_name, parse_method
from onnxq.calib.mse import Mse
from onnxq.calib.percentile import Percentile
from onnxq.calib.quant_error import expected_error
from onnxq.errors import OnnxqError, PlanError
from onnxq.numerics import fake_quant
from onnxq.spec import QuantSpec

INT8, INT4 = QuantSpec(), QuantSpec("int4")
METHODS = [Max(), Percentile(99.0), Percentile(), Mse(), Entropy()]
FINITE = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e4, 1e4, width=32))
RNG = np.random.default_rng(0)
N = 100_000
DATA = {
    "normal": RNG.normal(size=N),
    "rectified": np.maximum(RNG.normal(size=N), 0),
    "clipped at six": np.clip(RNG.normal(2, 3, size=N), 0, 6),
    "laplace": RNG.laplace(size=N),
    "heavy tails": RNG.standard_t(2, size=N),
    "uniform": RNG.uniform(-1, 3, size=N),
    "one outlier": np.append(RNG.normal(size=N), 1000.0),
    "negative": -RNG.exponential(size=N),
    "swish": (lambda x: x / (1 + np.exp(-x)))(RNG.normal(size=N) * 4),
}


def squared_error(x, amax, spec):
    return float(((x.astype(np.float64) - fake_quant(x, amax, spec)) ** 2).mean())


@pytest.mark.parametrize("spec", [INT8, INT4], ids=["int8", "int4"])
@pytest.mark.parametrize("name", DATA)
def test_mse_is_as_good_as_trying_every_range_on_the_raw_values(name, spec):
    x = DATA[name].astype(np.float32)
    amax = Mse()(histogram_of(x), spec)
    tried = np.abs(x).max() * 2.0 ** (-np.arange(0, 8, 1 / 12))
    best = min(squared_error(x, a, spec) for a in tried)
    # values are taken as evenly spread in their bins: 1/128 octave, where 100,000 are a sample
    assert squared_error(x, amax, spec) <= 1.01 * best


@pytest.mark.parametrize("method", METHODS, ids=repr)
@given(x=FINITE)
def test_a_range_is_never_above_the_exact_maximum_and_zero_only_for_zeros(method, x):
    amax = method(histogram_of(x), INT8)
    assert 0 <= amax <= np.abs(x).max()
    if isinstance(method, Mse | Max):
        assert (amax == 0) == (np.abs(x).max() == 0)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@given(x=FINITE, random=st.randoms(use_true_random=False))
def test_order_and_sign_do_not_change_a_range(method, x, random):
    shuffled = x.copy()
    random.shuffle(shuffled)
    amax = method(histogram_of(x), INT8)
    assert method(histogram_of(shuffled), INT8) == amax
    if not isinstance(method, Mse):  # which clips below at -128 steps, above at 127
        assert method(histogram_of(-x), INT8) == amax


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_all_zeros_and_nothing_at_all_have_range_zero(method):
    assert method(histogram_of(np.zeros(9)), INT8) == 0
    assert method(EMPTY, INT8) == 0


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_values_that_are_not_finite_are_refused(method):
    with pytest.raises(OnnxqError, match="1 of 3 values are infinite or NaN"):
        method(histogram_of(np.float32([1, np.nan, 2])), INT8)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_constant_keeps_its_value_to_a_bin(method):
    x = np.full(1000, 0.7, np.float32)
    assert method(histogram_of(x), INT8) == pytest.approx(0.7, rel=1 / 128)


@given(FINITE)
def test_max_is_exact(x):
    assert Max()(histogram_of(x), INT8) == np.abs(x).max()


@pytest.mark.parametrize("p", [50, 90, 99, 99.9, 99.99, 100])
@pytest.mark.parametrize("name", DATA)
def test_percentiles_are_those_of_the_magnitudes_to_a_bin(name, p):
    x = DATA[name].astype(np.float32)
    amax = Percentile(p)(histogram_of(x), INT8)
    magnitude = np.abs(x)
    below, above = (np.percentile(magnitude, p, method=m) for m in ("lower", "higher"))
    assert below * (1 - 1 / 128) <= amax <= above * (1 + 1 / 128)  # a bin is 1/128 of its start


def test_the_hundredth_percentile_is_the_exact_maximum():
    x = DATA["normal"].astype(np.float32)
    assert Percentile(100)(histogram_of(x), INT8) == np.abs(x).max()


@pytest.mark.parametrize("p", [0, -1, 100.1, float("nan")])
def test_a_percentile_out_of_range_is_refused(p):
    with pytest.raises(PlanError, match="choose one over 0 up to 100"):
        Percentile(p)


def divergence_by_loops(counts, end, levels):
    """KL(P || Q), bin by bin and group by group, as the calibration paper words it."""
    p = counts[:end].copy()
    p[-1] += counts[end:].sum()
    q = np.zeros(end)
    for k in range(levels):
        start, stop = end * k // levels, end * (k + 1) // levels
        filled = p[start:stop] > 0
        q[start:stop][filled] = counts[start:stop].sum() / max(filled.sum(), 1)
    p, q = p / p.sum(), q / q.sum()
    if (q[p > 0] == 0).any():
        return np.inf
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())


@given(
    hnp.arrays(np.float64, 60, elements=st.integers(0, 50).map(float)).filter(lambda c: c.sum() > 0)
)
def test_divergences_are_those_of_a_plain_implementation(counts):
    ends = np.arange(8, 61)
    expected = [
        divergence_by_loops(counts, end, 8) if counts[:end].sum() >= counts[end:].sum() else np.inf
        for end in ends
    ]
    # running sums of some hundred terms of size 1e4: rounding of about 1e-13 each
    np.testing.assert_allclose(divergences(counts, ends, 8), expected, rtol=1e-9, atol=1e-10)


def test_linear_counts_are_those_of_np_histogram_to_the_width_of_a_bin():
    x = RNG.uniform(0, 1, size=400_000).astype(np.float32)
    linear = linear_counts(histogram_of(x))
    exact, _ = np.histogram(x, LINEAR_BINS, (0, float(x.max())))
    assert linear.sum() == pytest.approx(x.size)
    # at most the values of one of our bins, 16 linear bins wide, fall on another side of an edge
    assert np.abs(np.cumsum(linear) - np.cumsum(exact)).max() < 16 * exact.max()


def test_entropy_leaves_zeros_out():
    x = np.abs(DATA["normal"]).astype(np.float32)
    with_zeros = np.concatenate([x, np.zeros(10 * x.size, np.float32)])
    assert Entropy()(histogram_of(with_zeros), INT8) == Entropy()(histogram_of(x), INT8)


def test_entropy_keeps_all_of_a_uniform_and_clips_a_lone_outlier():
    assert Entropy()(histogram_of(DATA["uniform"]), INT8) == pytest.approx(3, rel=1e-3)
    x = np.append(DATA["normal"], 20.0)
    assert Entropy()(histogram_of(x), INT8) < 6


def test_entropy_does_not_settle_on_the_first_of_few_values():
    x = np.arange(256, dtype=np.float32) / 255
    assert Entropy()(histogram_of(x), INT4) >= 0.5


def test_entropy_is_refused_for_fp8_and_keeps_all_for_int16():
    h = histogram_of(DATA["normal"])
    with pytest.raises(PlanError, match="not fp8; choose mse or max"):
        Entropy()(h, QuantSpec("fp8"))
    assert Entropy()(h, QuantSpec("int16")) == h.amax


@pytest.mark.parametrize("dtype", ["int8", "int4", "int16", "fp8"])
def test_mse_is_no_worse_than_any_other_method_for_every_dtype(dtype):
    spec, h = QuantSpec(dtype), histogram_of(DATA["heavy tails"])
    best = expected_error(h, Mse()(h, spec), spec)
    for other in (Max(), Percentile(99.9), Percentile(99.999)):
        assert best <= expected_error(h, other(h, spec), spec)


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("max", Max()),
        ("mse", Mse()),
        ("entropy", Entropy()),
        ("percentile", Percentile(99.99)),
        ("Percentile:99.9", Percentile(99.9)),
        ("auto", Auto()),
    ],
)
def test_methods_are_parsed_by_name(text, method):
    assert parse_method(text) == method


@pytest.mark.parametrize("text", ["kl", "", "mse:3", "percentiles"])
def test_an_unknown_method_lists_the_choices(text):
    with pytest.raises(PlanError, match=f"unknown method '{text}'; choose one of max, percentile"):
        parse_method(text)


def test_a_percentile_that_is_no_number_or_out_of_range_is_refused():
    with pytest.raises(PlanError, match=r"write percentile:99\.9"):
        parse_method("percentile:most")
    with pytest.raises(PlanError, match="over 0 up to 100"):
        parse_method("percentile:101")


def test_the_repr_of_a_method_is_its_configuration():
    assert [repr(m) for m in (Percentile(99.9), Mse())] == ["Percentile(p=99.9)", "Mse()"]


@pytest.mark.parametrize("text", ["max", "mse", "entropy", "percentile:99.9", "percentile:99.99"])
def test_the_name_of_a_method_is_what_the_command_line_takes(text):
    assert method_name(repr(parse_method(text))) == text


def test_a_method_of_the_pipeline_and_a_text_that_is_none_have_names_too():
    assert method_name(repr(GatedMse())) == "mse"
    assert method_name("by hand") == "by hand"
