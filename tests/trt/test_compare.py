"""Comparing a float model with another, sample by sample."""

from __future__ import annotations

import tracemalloc
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
