"""A device fitted to kernels whose true figures are known."""

import dataclasses

import numpy as np
import pytest

from onnxq.cost.fit import RATIOS, Row, fit, ratios_of
from onnxq.errors import OnnxqError

BANDWIDTH, RATE, OVERHEAD = 1e9, 5e10, 0.003


def rows(count=40, noise=0.0, types=("fp16",)):
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        moved, macs = 10 ** rng.uniform(5, 8), 10 ** rng.uniform(7, 10)
        dtype = types[i % len(types)]
        slower = max(moved / BANDWIDTH, macs / (RATE * RATIOS[dtype]))
        ms = (slower + OVERHEAD) * float(np.exp(noise * rng.normal()))
        found.append(Row(f"k{i}", moved, macs, dtype, ms))
    return found


def test_the_figures_of_a_device_that_is_as_the_formula_says_are_found():
    found = fit(rows(), ratios_of(None))
    assert found.bandwidth == pytest.approx(BANDWIDTH, rel=0.01)
    assert found.rates["fp16"] == pytest.approx(RATE, rel=0.01)
    assert found.overhead == pytest.approx(OVERHEAD, rel=0.01)
    assert found.rates["int8"] == pytest.approx(2 * found.rates["fp16"])
    assert found.median_error < 0.01
    assert sum(found.limits.values()) == 40


def test_a_kernel_that_takes_ten_times_as_long_moves_the_fit_little_and_is_named_first():
    slow = rows()
    slow[7] = dataclasses.replace(slow[7], ms=10 * slow[7].ms)
    found = fit(slow, ratios_of(None))
    assert found.bandwidth == pytest.approx(BANDWIDTH, rel=0.1)
    assert found.rates["fp16"] == pytest.approx(RATE, rel=0.1)
    assert next(iter(found.errors)) == "k7"
    assert found.errors["k7"] == pytest.approx(-0.9, abs=0.02)


def test_a_type_with_kernels_enough_has_a_rate_of_its_own():
    both = [
        dataclasses.replace(r, ms=r.ms * (0.5 if r.type == "int8" else 1.0), bytes=1.0)
        for r in rows(60, types=("fp16", "int8"))
    ]
    found = fit(both, ratios_of(None))
    # INT8 is four times FP16 here, not the two times that are stated for types not in the profile
    assert 3.5 < found.rates["int8"] / found.rates["fp16"] < 5


def test_twice_the_times_are_half_the_device():
    once = fit(rows(noise=0.2), ratios_of(None))
    twice = fit([dataclasses.replace(r, ms=2 * r.ms) for r in rows(noise=0.2)], ratios_of(None))
    assert twice.ms(1e6, 1e9, "int8") == pytest.approx(2 * once.ms(1e6, 1e9, "int8"), rel=1e-4)


def test_two_kernels_are_no_device():
    with pytest.raises(OnnxqError, match="only 2 kernels of the model"):
        fit(rows(2), ratios_of(None))


def test_rates_are_stated_beside_fp16():
    assert ratios_of("int8=1.5, fp32=1") == {**RATIOS, "int8": 1.5, "fp32": 1.0}
    assert ratios_of(None) == RATIOS


@pytest.mark.parametrize("text", ["int8", "int8=", "int8=fast", "int8=-1", "int8=nan", "int3=2"])
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(OnnxqError, match="write TYPE=NUMBER"):
        ratios_of(text)


def test_a_type_without_a_rate_is_not_guessed():
    with pytest.raises(OnnxqError, match="no rate of int16 is known"):
        fit(rows(), ratios_of(None)).ms(1.0, 1.0, "int16")
