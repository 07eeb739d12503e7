"""Descent lowers the error of the output step by step, and ends where no step lowers it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rounding_data import WEIGHTS, problem

from onnxq.numerics import amax_of, scale_of
from onnxq.recover.descent import descended, rescaled
from onnxq.recover.feedback import error, rounded, rounder_of
from onnxq.spec import QuantSpec


@pytest.mark.parametrize("dtype", WEIGHTS)
def test_it_lowers_what_feedback_leaves(dtype):
    w, s, h, rounder = problem(dtype=dtype)
    first = rounded(w, s, h, rounder)
    codes = descended(w, s, first, h, rounder)
    before, after = (error(c * s - w, h) for c in (first, codes))
    assert np.all(after <= before * (1 + 1e-12))  # float64 sums in another order
    assert after.sum() < before.sum()


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_no_code_alone_is_better(dtype):
    w, s, h, rounder = problem(dtype=dtype)
    codes = descended(w, s, rounder(w / s), h, rounder)
    least, row = error(codes * s - w, h), QuantSpec(dtype).row
    for k, step in product(range(w.shape[-1]), (-1, 1)):
        other = codes.copy()
        other[..., k] = np.clip(other[..., k] + step, row.qmin, row.qmax)
        assert np.all(error(other * s - w, h) >= least - 1e-9 * least)


def test_few_codes_come_near_the_best_of_all():
    """Against every combination of codes: of 30 rows feedback leaves 25 above the best."""
    w, s, h, rounder = problem(groups=1, rows=30, inputs=4)
    row = QuantSpec("int4").row
    every = np.array(list(product(range(row.qmin, row.qmax + 1), repeat=4)), np.float64)
    best = np.array([error(every[None] * s[:, i : i + 1] - w[:, i : i + 1], h).min()
                     for i in range(30)])  # fmt: skip
    first = rounded(w, s, h, rounder)
    fed, codes = (error(c * s - w, h)[0] for c in (first, descended(w, s, first, h, rounder)))
    assert np.all(codes >= best - 1e-9 * best)
    assert np.all(codes <= fed + 1e-9 * fed)
    assert np.isclose(codes, best).sum() > 2 * np.isclose(fed, best).sum()
    assert codes.sum() - best.sum() < 0.5 * (fed.sum() - best.sum())


@settings(max_examples=60, deadline=None)
@given(
    w=arrays(np.float64, (2, 3, 5), elements=st.floats(-10, 10)),
    x=arrays(np.float64, (2, 5, 8), elements=st.floats(-10, 10)),
    dtype=st.sampled_from(WEIGHTS),
)
def test_the_error_never_rises(w, x, dtype):
    spec, h = QuantSpec(dtype), x @ x.swapaxes(1, 2)
    s = np.full_like(w, float(scale_of(amax_of(w, spec), spec)))
    first = rounder_of(spec)(w / s)
    codes = descended(w, s, first, h, rounder_of(spec))
    assert np.all((codes >= spec.row.qmin) & (codes <= spec.row.qmax))
    before = error(first * s - w, h)
    room = 1e-9 * (1 + error(w, h))  # float64 sums of numbers that large
    assert np.all(error(codes * s - w, h) <= before + room)
    owner = np.broadcast_to(np.arange(6).reshape(2, 3, 1), w.shape)
    wide = rescaled(w, s, codes, h, owner)
    assert np.all(error(codes * wide - w, h) <= error(codes * s - w, h) + room)
    assert wide.min() > 0


def test_inputs_that_are_never_active_keep_their_codes():
    w, s, h, rounder = problem()
    h[:, 3:5], h[:, :, 3:5] = 0, 0
    first = rounder(w / s)
    np.testing.assert_array_equal(descended(w, s, first, h, rounder)[..., 3:5], first[..., 3:5])
    np.testing.assert_array_equal(descended(w, s, first, 0 * h, rounder), first)


def owners(kind, shape):
    groups, rows, inputs = shape
    if kind == "tensor":
        return np.zeros(shape, np.intp)
    each = np.arange(groups * rows).reshape(groups, rows, 1)
    if kind == "channel":
        return np.broadcast_to(each, shape)
    return each * 4 + np.arange(inputs) * 4 // inputs


@pytest.mark.parametrize("kind", ["tensor", "channel", "block"])
def test_scales_are_those_of_least_squares(kind):
    """With one scale a row part the step is exact; blocks settle as they are taken in turn."""
    w, s, h, rounder = problem(seed=3)
    codes, owner = rounder(w / s), owners(kind, w.shape)
    wide = s
    for _ in range(200 if kind == "block" else 1):
        wide = rescaled(w, wide, codes, h, owner)
    for scale in range(owner.max() + 1):
        assert np.ptp(wide[owner == scale]) == 0
        for share in (0.999, 1.001):
            other = np.where(owner == scale, wide * share, wide)
            assert error(codes * other - w, h).sum() >= error(codes * wide - w, h).sum()


def test_a_scale_without_codes_stays():
    w, s, h, _ = problem()
    owner = owners("channel", w.shape)
    np.testing.assert_array_equal(rescaled(w, s, 0 * w, h, owner), s)
    np.testing.assert_array_equal(rescaled(w, s, -np.rint(w / s), h, owner) > 0, s > 0)
