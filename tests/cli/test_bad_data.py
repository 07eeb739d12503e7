"""Calibration data that is wrong is refused with a line; data that is odd is warned about."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def x(images):
    return np.load(images)


@pytest.fixture
def refused_data(refused, classifier):
    def call(name, array=None, *options):
        if array is not None:
            np.save(name, array)
        return refused("quantize", classifier, "--calib", name, *options)

    return call


def test_missing_data_lists_the_forms(refused_data):
    assert "no calibration data at 'none.npy'; give a .npy" in refused_data("none.npy")


def test_no_data_names_the_option(refused, classifier):
    assert "Missing option '--calib'" in refused("quantize", classifier)


def test_empty_data_is_told(refused_data, x):
    Path("empty.npy").touch()
    assert "'empty.npy' is empty" in refused_data("empty.npy")
    assert "'none.npy' holds no samples" in refused_data("none.npy", x[:0])


def test_a_wrong_shape_or_rank_shows_both(refused_data, x):
    expected = "input 'image': expected float32 (?, 1, 16, 16), found float32 "
    assert expected + "(samples, 1, 4, 16)" in refused_data("x.npy", x[:, :, :4])
    assert expected + "(samples, 16, 16)" in refused_data("x.npy", x[0])


@pytest.mark.parametrize("dtype", ["float64", "uint8", "int64"])
def test_a_wrong_dtype_says_how_to_convert(refused_data, x, dtype):
    message = refused_data("x.npy", x.astype(dtype))
    assert f"expected float32, found {dtype}" in message
    assert ".astype(np.float32)" in message


def test_a_wrong_input_name_lists_the_right_ones(refused_data, x):
    np.savez("x.npz", picture=x)
    message = refused_data("x.npz")
    assert "lacks input 'image' but holds 'picture'; the model's inputs are 'image'" in message


@pytest.fixture
def spoiled(x):
    x = x.copy()
    x[3, 0, 0, 0], x[7] = np.nan, np.inf
    np.save("spoiled.npy", x)
    return "spoiled.npy"


def test_nan_and_infinity_are_named_by_sample(refused_data, spoiled):
    message = refused_data(spoiled)
    assert message.startswith("samples 3, 7 (2 of 100) hold NaN or infinite values")
    assert "--allow-nonfinite" in message


def test_nan_and_infinity_are_dropped_on_demand(done, classifier, spoiled, x):
    ran = done("calibrate", classifier, "--calib", spoiled, "--allow-nonfinite", "-o", "a.json")
    assert "warning: samples 3, 7 (2 of 100) hold NaN or infinite values: dropped" in ran.err
    np.save("rest.npy", np.delete(x, [3, 7], axis=0))
    done("calibrate", classifier, "--calib", "rest.npy", "-o", "b.json")
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()


def test_constant_and_repeated_samples_are_warned_about(done, classifier, x):
    x = x.copy()
    x[3], x[6] = 0.5, x[5]
    np.save("odd.npy", x)
    ran = done("calibrate", classifier, "--calib", "odd.npy", "-o", "r.json")
    assert "warning: sample 3 (1 of 100) holds one value only" in ran.err
    assert "warning: sample 6 (1 of 100) holds the content of an earlier one" in ran.err


def test_samples_that_are_all_equal_are_warned_about(done, classifier, x):
    np.save("zeros.npy", np.zeros_like(x))
    ran = done("quantize", classifier, "--calib", "zeros.npy", "-o", "q.onnx")
    assert "(100 of 100) hold one value only in an input" in ran.err
    assert "(99 of 100) hold the content of an earlier one" in ran.err
    assert "'image' is zero in every sample" in " ".join(ran.out.split())


@pytest.mark.parametrize("samples", [0, -1, "many"])
def test_a_number_of_samples_that_is_none_is_told(refused, classifier, images, samples):
    assert "'--samples'" in refused("quantize", classifier, "--calib", images,
                                    "--samples", samples)  # fmt: skip


def test_more_samples_than_there_are_is_told(refused, classifier, images):
    message = refused("quantize", classifier, "--calib", images, "--samples", 101)
    assert message == "cannot choose 101 samples of 100; ask for 1 to 100"


def test_an_input_of_a_type_numpy_has_not_is_named(refused, conv_model, conv_data):
    body = """(bfloat16[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y) {
        f = Cast<to = 1>(x)
        y = Conv<pads = [1, 1, 1, 1]>(f, w)
    }"""
    message = refused("quantize", conv_model(body), "--calib", conv_data)
    assert message.startswith("input 'x' is BFLOAT16, which calibration data cannot be")
