"""How far two models are apart: sums over samples, the same however they are split."""

from __future__ import annotations

import math
import re

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx.numpy_helper import from_array

from onnxq.errors import ModelError
from onnxq.judge.accuracy import Agreement, agreement, measure
from onnxq.judge.comparable import Equality
from onnxq.judge.gaps import signal_and_noise
from onnxq.numerics import sqnr_db

VALUES = arrays(np.float32, 12, elements=st.floats(-1e3, 1e3, width=32))


def net(body, outputs="float[N, 3] y", inputs="float[N, 3] x", opset=17):
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )


FLOAT = net("a = Mul(x, x) y = Add(a, x)")


def feeds(count=3):
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((2, 3)).astype(np.float32)} for _ in range(count)]


@given(VALUES, VALUES)
def test_the_figures_are_their_formulas(ref, test):
    found = agreement(ref, test)
    r, t = ref.astype(np.float64), test.astype(np.float64)
    # sums in another order: last bits of float64
    assert found.sqnr_db == pytest.approx(sqnr_db(ref, test), abs=1e-9)
    assert found.mean_abs == pytest.approx(np.abs(r - t).mean(), abs=1e-12)
    assert found.abs_max == np.abs(r - t).max()
    if r.any() and t.any():
        assert found.cosine == pytest.approx(r @ t / np.linalg.norm(r) / np.linalg.norm(t))


@given(VALUES, VALUES, st.integers(0, 12))
def test_parts_add_up_to_the_whole(ref, test, cut):
    whole = agreement(ref, test)
    parts = agreement(ref[:cut], test[:cut]) + agreement(ref[cut:], test[cut:])
    # sums in another order: last bits of float64
    assert parts.noise == pytest.approx(whole.noise)
    assert parts.dot == pytest.approx(whole.dot, abs=1e-6)
    assert (parts.count, parts.abs_max) == (whole.count, whole.abs_max)
    assert whole + Agreement() == whole


def test_equal_and_all_zero_outputs_have_the_figures_at_the_ends():
    zero, one = np.zeros(4), np.ones(4)
    assert agreement(one, one).sqnr_db == math.inf
    assert agreement(one, one).cosine == 1
    assert agreement(zero, zero).sqnr_db == math.inf
    assert agreement(zero, zero).cosine == 1
    assert agreement(zero, one).sqnr_db == -math.inf
    assert agreement(zero, one).cosine == 0
    assert Agreement().mean_abs == 0


def test_tiny_and_huge_powers_neither_vanish_nor_overflow():
    assert agreement(np.full(2, 1e-150), np.full(2, 1e100)).sqnr_db == pytest.approx(-5000)
    assert agreement(np.full(2, 1e-100), np.full(2, 1e-100)).cosine == pytest.approx(1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_alike_in_both_is_left_out_and_counted(value):
    ref, test = np.array([3.0, value, 4.0]), np.array([3.0, value, 4.5])
    found = agreement(ref, test) + agreement(ref[[0, 2]], test[[0, 2]])
    alone = agreement(ref[[0, 2]], test[[0, 2]])
    assert found.as_dict() == (alone + alone).as_dict()
    assert (found.count, found.alike, found.apart) == (4, 1, 0)


def test_the_other_infinity_is_not_alike():
    found = agreement(np.array([1, math.inf]), np.array([1, -math.inf]))
    assert math.isnan(found.sqnr_db)
    assert (found.alike, found.apart) == (0, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_not_hidden_by_good_samples(bad):
    good = agreement(np.ones(3), np.ones(3))
    broken = agreement(np.ones(3), np.array([1, bad, 1]))
    for total in (good + broken, broken + good):
        assert all(math.isnan(v) for v in total.as_dict().values())


def test_a_report_gets_four_rounded_figures():
    found = agreement(np.array([3.0, 4.0]), np.array([3.0, 4.5])).as_dict()
    assert found == {"sqnr_db": 20.0, "cosine": 0.99846, "max_abs": 0.5, "mean_abs": 0.25}


def test_a_model_agrees_with_itself(tmp_path):
    onnx.save(FLOAT, tmp_path / "m.onnx")
    ticks = []
    found = measure(FLOAT, tmp_path / "m.onnx", feeds(), lambda: ticks.append(1))
    assert found["y"].sqnr_db == math.inf
    assert found["y"].count == 3 * 6
    assert len(ticks) == 6


def test_the_difference_of_two_models_is_measured_over_all_samples():
    other = net("y = Mul(x, x)")
    found = measure(FLOAT, other, iter(feeds()))
    xs = np.concatenate([f["x"] for f in feeds()])
    expected = agreement(xs * xs + xs, xs * xs)
    # sums in another order: last bits of float64
    assert found["y"].noise == pytest.approx(expected.noise)
    assert found["y"].count == expected.count


def test_integer_outputs_are_not_measured():
    outputs = "float[N, 3] y, int64[N] k"
    model = net("y = Neg(x) k = ArgMax<axis = 1, keepdims = 0>(x)", outputs)
    assert list(measure(model, model, feeds())) == ["y"]


def test_integers_booleans_and_text_are_compared_by_equality():
    outputs = "int64[N] k, bool[N, 3] b, string[N, 3] s"
    body = """
        m = Constant<value = float[3] {0.0, 0.0, SHIFT}>() a = Add(x, m)
        k = ArgMax<axis = 1, keepdims = 0>(a) b = Greater(a, x) s = Cast<to = 8>(b)
    """
    models = [net(body.replace("SHIFT", shift), outputs) for shift in ("0.0", "9.0")]
    found = measure(*models, feeds())
    xs = np.concatenate([f["x"] for f in feeds()])
    assert not found
    assert found.exact["k"] == Equality(6, int((xs.argmax(1) == 2).sum()))
    assert found.exact["b"] == found.exact["s"] == Equality(18, 12)


def positive(least):
    """The values over a limit, how many depends on the values, beside all of them."""
    return onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 3] x) => (float[K] kept, float[N, 3] y)
        <float limit = {{{least}}}, int64[1] flat = {{-1}}>
        {{
            over = Greater(x, limit) mask = Reshape(over, flat) kept = Compress(x, mask)
            y = Neg(x)
        }}""")


def test_an_output_whose_length_depends_on_the_values_is_left_out_by_name():
    found = measure(positive(0.0), positive(0.5), feeds())
    assert list(found) == ["y"]
    assert re.match(r"its length depends on the values: shape \(\d,\) in one model and "
                    r"\(\d,\) in the other", found.left_out["kept"])  # fmt: skip
    assert found["y"].count == 18


def test_of_a_model_of_the_same_making_no_declared_length_makes_another_model():
    wrong = positive(0.0)
    wrong.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
    found = measure(wrong, positive(0.5), feeds(), declared={})
    assert "kept" in found.left_out


def test_an_output_without_a_value_to_compare_is_left_out():
    nothing = net("y = Slice(x, e, e) z = Div(x, o)", "float[K, 3] y, float[N, 3] z").graph
    nothing.initializer.extend([from_array(np.zeros(1, np.int64), "e"),
                                from_array(np.zeros(3, np.float32), "o")])  # fmt: skip
    model = onnx.helper.make_model(nothing, ir_version=8,
                                   opset_imports=[onnx.helper.make_opsetid("", 17)])  # fmt: skip
    found = measure(model, model, feeds())
    assert not found
    assert found.left_out == {
        "y": "it has no values in any sample",
        "z": "all its 18 values are infinite or NaN in both models",
    }


def test_sequences_are_left_out():
    model = net("s = SplitToSequence<axis = 0>(x) y = Neg(x)", "seq(float[M, 3]) s, float[N, 3] y")
    found = measure(model, model, feeds())
    assert list(found) == ["y"]
    assert list(found.left_out) == ["s"]


def test_a_model_with_half_inputs_and_outputs_gets_its_feeds_in_half():
    half = net("y = Neg(x)", "float16[N, 3] y", "float16[N, 3] x")
    found = measure(net("y = Neg(x)"), half, feeds())
    xs = np.concatenate([f["x"] for f in feeds()])
    assert found["y"].abs_max == np.abs(xs.astype(np.float16) - xs).max()


def test_a_model_with_other_outputs_is_refused():
    with pytest.raises(ModelError, match="no output 'y', only 'z'"):
        measure(FLOAT, net("z = Neg(x)", "float[N, 3] z"), feeds())
    with pytest.raises(ModelError, match=r"output 'y' has shape \(2, 3\) .* and \(3, 2\)"):
        measure(FLOAT, net("y = Transpose(x)", "float[M, N] y"), feeds())


def test_signal_and_noise_are_exact_sums_of_what_is_finite_in_both(rng):
    ref, test = rng.integers(-50, 50, size=(2, 4, 100)).astype(np.float32)
    exact = sum(int(x) ** 2 for x in ref.flat), sum(int(x) ** 2 for x in (ref - test).flat)
    assert signal_and_noise(ref, test) == exact
    ref[0, 0] = test[0, 0] = np.inf
    left = (ref.ravel()[1:], test.ravel()[1:])
    assert signal_and_noise(ref, test) == signal_and_noise(*left)
    test[0, 1] = np.nan
    assert signal_and_noise(ref, test)[1] == math.inf
    assert all(map(math.isnan, signal_and_noise(ref, test[1:])))
