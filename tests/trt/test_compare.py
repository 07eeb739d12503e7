"""Comparing a float model with another, sample by sample."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxq.calib.data import Dataset, InputInfo, open_data
from onnxq.errors import ModelError, OnnxqError, RuntimeMissing
from onnxq.trt.backend import has_gpu
from onnxq.trt.compare import Comparison, Thresholds, compare

pytest.importorskip("onnxruntime")

FLOAT = """
<ir_version: 10, opset_import: ["": 17]>
net (float[1, 4] x) => (float[1, 4] y)
<float two = {2.0}, float step = {STEP}>
{
  a = Mul(x, two)
  b = Add(a, step)
  y = Relu(b)
}
"""


def _model(path: Path, step: str) -> Path:
    onnx.save(onnx.parser.parse_model(FLOAT.replace("STEP", step)), path)
    return path


def _data(folder: Path, samples: int) -> Dataset:
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.normal(size=(samples, 4)).astype(np.float32))
    return open_data(str(folder / "x.npy"), {"x": InputInfo((1, 4), np.dtype(np.float32))})


def _compare(folder: Path, thresholds: Thresholds, step: str = "0.25") -> Comparison:
    a, b = _model(folder / "a.onnx", "0.0"), _model(folder / "b.onnx", step)
    return compare(a, b, _data(folder, 16), thresholds, per_tensor=True)


def test_equal_models_agree_in_every_figure(tmp_path: Path) -> None:
    found = _compare(tmp_path, Thresholds(tolerance=0.0, min_sqnr=300), step="0.0")
    assert not found.failures
    y = found.outputs["y"].as_dict()
    assert (y["sqnr_db"], y["psnr_db"], y["cosine"]) == (np.inf, np.inf, 1.0)
    assert (y["max_abs"], y["top1_agreement"], y["samples_within_tolerance"]) == (0.0, 1.0, 16)


def test_figures_are_those_of_their_formulas(tmp_path: Path) -> None:
    found = _compare(tmp_path, Thresholds())
    x = np.load(tmp_path / "x.npy").astype(np.float64)
    ref, test = np.maximum(2 * x, 0), np.maximum(2 * x + 0.25, 0)
    gap = ref - test
    y = found.outputs["y"]
    # float32 models against float64 formulas: relative 1e-6
    assert y.sums.sqnr_db == pytest.approx(10 * np.log10((ref**2).sum() / (gap**2).sum()), 1e-6)
    assert y.psnr_db == pytest.approx(10 * np.log10(ref.max() ** 2 / (gap**2).mean()), 1e-6)
    assert y.sums.mean_abs == pytest.approx(np.abs(gap).mean(), 1e-6)
    assert y.top1 == (ref.argmax(1) == test.argmax(1)).mean()


def test_the_tensor_where_models_part_is_named(tmp_path: Path) -> None:
    found = _compare(tmp_path, Thresholds())
    assert list(found.tensors) == ["a", "b"]
    assert found.tensors["a"].sums.noise == 0
    assert found.first_offender == "b"


@pytest.mark.parametrize(
    ("thresholds", "said"),
    [
        (Thresholds(tolerance=1e-3), "beyond tolerance"),
        (Thresholds(atol=0.01), "mean absolute error"),
        (Thresholds(min_sqnr=60), "under 60 dB"),
        (Thresholds(min_cosine=0.99999), "cosine"),
    ],
)
def test_a_missed_threshold_is_a_failure(tmp_path: Path, thresholds: Thresholds, said: str) -> None:
    (failure,) = _compare(tmp_path, thresholds).failures
    assert said in failure
    assert "'y'" in failure


def test_a_tolerance_that_holds_is_no_failure(tmp_path: Path) -> None:
    found = _compare(tmp_path, Thresholds(tolerance=0.3, error_stat="max", atol=0.3, min_sqnr=5))
    assert not found.failures


def test_models_with_other_outputs_are_refused(tmp_path: Path) -> None:
    a = _model(tmp_path / "a.onnx", "0.0")
    other = onnx.parser.parse_model(FLOAT.replace("STEP", "0.0").replace("y", "z"))
    onnx.save(other, tmp_path / "z.onnx")
    with pytest.raises(ModelError, match="no output 'y'"):
        compare(a, tmp_path / "z.onnx", _data(tmp_path, 2), Thresholds())


def test_an_unknown_error_stat_lists_the_choices() -> None:
    with pytest.raises(OnnxqError, match="median"):
        Thresholds(error_stat="mode")


@pytest.mark.skipif(has_gpu(), reason="says what happens without a GPU")
def test_an_engine_without_a_gpu_is_one_clear_line(tmp_path: Path) -> None:
    a = _model(tmp_path / "a.onnx", "0.0")
    (tmp_path / "b.engine").write_bytes(b"engine")
    with pytest.raises(RuntimeMissing, match="no GPU"):
        compare(a, tmp_path / "b.engine", _data(tmp_path, 2), Thresholds())


def test_memory_does_not_grow_with_samples(tmp_path: Path) -> None:
    a, b = _model(tmp_path / "a.onnx", "0.0"), _model(tmp_path / "b.onnx", "0.1")
    compare(a, b, _data(tmp_path, 4), Thresholds())  # imports and caches

    def peak(samples: int) -> int:
        data = _data(tmp_path, samples)
        tracemalloc.start()
        compare(a, b, data, Thresholds())
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(20), peak(400)
    # 380 more samples of four outputs would be over 100 kB if they were kept
    assert many < few + 50_000


ODD = """
<ir_version: 10, opset_import: ["": 17]>
net (float[N, 4] x) => (OUTPUTS)
<float step = {STEP}, float none = {-inf}, float zero = {0.0},
 bool[4] seen = {1, 0, 1, 1}, bool[4] unseen = {0, 0, 0, 0}>
{
  y = Add(x, step)
  masked = Where(seen, y, none)
  all = Where(unseen, y, none)
  k = ArgMax<axis = -1, keepdims = 0>(y)
  over = Greater(y, zero)
  places = NonZero(over)
  one = ReduceMean<axes = [-1], keepdims = 1>(y)
}
"""
TYPES = {"y": "float[N, 4]", "masked": "float[N, 4]", "k": "int64[N]", "places": "int64[R, K]",
         "all": "float[N, 4]", "one": "float[N, 1]"}  # fmt: skip
DISTANCES = [Thresholds(tolerance=100.0), Thresholds(atol=100.0), Thresholds(min_sqnr=-100.0),
             Thresholds(min_cosine=-1.0)]  # fmt: skip


def _save_odd(path: Path, outputs: str, step: str, op: str = "ArgMax") -> Path:
    declared = ", ".join(f"{TYPES[name]} {name}" for name in outputs.split())
    text = ODD.replace("OUTPUTS", declared).replace("STEP", step).replace("ArgMax", op)
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def _odd(folder: Path, outputs: str, thresholds: Thresholds, step: str = "0.7") -> Comparison:
    """A comparison of models with these outputs, the second `step` off."""
    paths = [folder / "a.onnx", folder / "b.onnx"]
    for path, by in zip(paths, ("0.0", step), strict=True):
        _save_odd(path, outputs, by)
    return compare(*paths, _data(folder, 16), thresholds)


@pytest.mark.parametrize("thresholds", DISTANCES)
@pytest.mark.parametrize("output", ["places", "all"])
def test_a_threshold_without_anything_to_hold_it_against_is_missed(
    tmp_path: Path, thresholds: Thresholds, output: str
) -> None:
    found = _odd(tmp_path, output, thresholds)
    (failure,) = found.failures
    assert "cannot be judged: no output can be compared" in failure
    assert f"'{output}'" in failure
    assert output in found.found.left_out


@pytest.mark.parametrize("output", ["places", "all", "one"])
def test_an_agreement_of_nothing_is_missed(tmp_path: Path, output: str) -> None:
    (failure,) = _odd(tmp_path, output, Thresholds(min_agreement=0.0)).failures
    assert "--min-agreement cannot be judged" in failure


def test_what_is_left_out_takes_no_threshold_from_the_rest(tmp_path: Path) -> None:
    assert not _odd(tmp_path, "y places all", Thresholds(min_sqnr=0.0)).failures
    (failure,) = _odd(tmp_path, "y places all", Thresholds(min_sqnr=50.0)).failures
    assert failure.startswith("'y'")


def test_infinities_alike_are_left_out_and_the_rest_is_judged(tmp_path: Path) -> None:
    found = _odd(tmp_path, "masked", Thresholds(tolerance=0.71, error_stat="max", atol=0.71))
    assert not found.failures
    masked = found.outputs["masked"]
    # y = x + 0.7 at three places of four, but for rounding in float32
    assert masked.sums.mean_abs == pytest.approx(0.7, abs=1e-6)
    assert masked.sums.alike == 16
    assert np.isfinite(masked.psnr_db)
    assert list(found.found.notes()) == [
        "output 'masked': 16 of 64 values are infinite or NaN alike in both models and are left out"
    ]
    assert len(_odd(tmp_path, "masked", Thresholds(tolerance=0.69, atol=0.69)).failures) == 2


@pytest.mark.parametrize("thresholds", DISTANCES)
def test_a_value_that_one_model_alone_lacks_misses_every_threshold(
    tmp_path: Path, thresholds: Thresholds
) -> None:
    (failure,) = _odd(tmp_path, "y", thresholds, step="inf").failures
    assert "64 of its values are NaN or infinite in one model alone" in failure


def test_integers_are_held_against_an_agreement(tmp_path: Path) -> None:
    same = _odd(tmp_path, "k", Thresholds(min_agreement=1.0), step="0.0")
    assert not same.failures
    assert same.found.exact["k"].share == 1.0
    a, b = tmp_path / "a.onnx", _save_odd(tmp_path / "least.onnx", "k", "0.0", op="ArgMin")
    for asked, said in ((Thresholds(min_agreement=0.5), "share of equal values 0.0000"),
                        (Thresholds(min_sqnr=-100.0), "give --min-agreement")):  # fmt: skip
        (failure,) = compare(a, b, _data(tmp_path, 16), asked).failures
        assert said in failure


@pytest.mark.parametrize("thresholds", DISTANCES)
def test_integers_that_are_all_equal_are_within_any_distance(
    tmp_path: Path, thresholds: Thresholds
) -> None:
    assert not _odd(tmp_path, "k", thresholds, step="0.0").failures


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(OnnxqError, match="--min-sqnr nan holds for nothing"):
        Thresholds(min_sqnr=float("nan"))


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [("tolerance", -1.0, "of 0 or more"), ("atol", -0.1, "of 0 or more"),
     ("min_cosine", 1.5, "from -1 to 1"), ("min_agreement", 98.0, "from 0 to 1")],
)  # fmt: skip
def test_a_threshold_out_of_its_bounds_is_refused(name: str, value: float, range_: str) -> None:
    flag = "--" + name.replace("_", "-")
    with pytest.raises(OnnxqError, match=f"{flag} {value:g} makes no sense.* {range_}"):
        replace(Thresholds(), **{name: value})


def test_an_axis_of_a_fixed_length_that_differs_is_another_model(tmp_path: Path) -> None:
    a = _model(tmp_path / "a.onnx", "0.0")
    text = FLOAT.replace("STEP", "0.0").replace("float[1, 4] y", "float[1, 5] y")
    wider = text.replace("y = Relu(b)", "z = Relu(b) one = Constant<value = float[1, 1] {1.0}>()"
                         " y = Concat<axis = 1>(z, one)")  # fmt: skip
    onnx.save(onnx.parser.parse_model(wider), tmp_path / "b.onnx")
    with pytest.raises(ModelError, match=r"'y' has shape \(1, 4\) in one model and \(1, 5\)"):
        compare(a, tmp_path / "b.onnx", _data(tmp_path, 2), Thresholds())
