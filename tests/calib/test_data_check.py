"""Samples that would spoil a calibration are found, named, dropped or warned of."""

import logging

import numpy as np
import pytest

from onnxq.calib.data import InputInfo, open_data
from onnxq.calib.data_check import check_finite, drop_nonfinite, examine
from onnxq.errors import DataError

INPUTS = {"x": InputInfo((None, 4), np.dtype(np.float32))}


@pytest.fixture
def data_of(tmp_path):
    def write(x):
        np.save(tmp_path / "x.npy", np.asarray(x, np.float32))
        return open_data(str(tmp_path / "x.npy"), INPUTS)

    return write


def rows(count):
    return np.random.default_rng(0).normal(size=(count, 4))


def test_sound_data_has_no_findings_and_its_digest(data_of):
    dataset = data_of(rows(5))
    findings = check_finite(dataset)
    assert findings.nonfinite == findings.constant == findings.duplicate == ()
    assert findings.digest == dataset.digest()


def test_samples_that_are_not_finite_are_an_error_that_names_them(data_of):
    x = rows(12)
    x[1, 2], x[7, 0] = np.nan, -np.inf
    expected = r"samples 1, 7 \(2 of 12\) hold NaN or infinite values; .*--allow-nonfinite"
    with pytest.raises(DataError, match=expected):
        check_finite(data_of(x))


def test_samples_that_are_not_finite_can_be_dropped(data_of, caplog):
    x = rows(12)
    x[1, 2] = np.nan
    with caplog.at_level(logging.WARNING):
        kept = drop_nonfinite(data_of(x))
    assert [i for _, i in kept.rows] == [0, *range(2, 12)]
    assert "sample 1 (1 of 12) holds NaN or infinite values: dropped" in caplog.text


def test_data_with_nothing_finite_is_an_error(data_of):
    with pytest.raises(DataError, match="all 3 samples hold NaN"):
        drop_nonfinite(data_of(np.full((3, 4), np.nan)))


def test_constant_and_repeated_samples_are_warned_of(data_of, caplog):
    x = rows(6)
    x[2], x[5] = 0.5, x[1]
    with caplog.at_level(logging.WARNING):
        findings = check_finite(data_of(x))
    assert (findings.constant, findings.duplicate) == ((2,), (5,))
    assert "sample 2 (1 of 6) holds one value only in an input" in caplog.text
    assert "sample 5 (1 of 6) holds the content of an earlier one" in caplog.text


def test_a_long_list_of_samples_is_cut(data_of):
    with pytest.raises(DataError, match=r"0, 1, 2, 3, 4, 5, 6, 7, \.\.\. \(20 of 20\)"):
        check_finite(data_of(np.full((20, 4), np.inf)))


def test_integer_inputs_may_be_constant(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 4), np.int64))
    dataset = open_data(str(tmp_path / "x.npy"), {"x": InputInfo((None, 4), np.dtype(np.int64))})
    assert examine(dataset).constant == ()
