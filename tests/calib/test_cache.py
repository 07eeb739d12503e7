"""The second run with the same model and data does not run the model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from onnxq import api
from onnxq.calib.cache import cached
from onnxq.calib.histogram import histogram_of
from onnxq.calib.stats import Stats, add_digests, sample_digest
from onnxq.errors import DataError, ModelError
from onnxq.pipeline.config import Config
from onnxq.run.runtime import Runtime
from onnxq.targets.options import PlanOptions

CLASSIFIER = Path(__file__).resolve().parents[2] / "fixtures" / "classifier"


class Rows:
    """Samples in memory."""

    def __init__(self, *values):
        self.rows = [{"x": np.array([[v]], np.float32)} for v in values]

    def __len__(self):
        return len(self.rows)

    def sample(self, i):
        return self.rows[i]


@pytest.fixture
def look_up(tmp_path):
    """(statistics, names that had to be counted) of tensors of a model over rows."""

    def call(tensors, rows, model="m", extension=None):
        counted, runtime = [], Runtime(ort_extension=extension)

        def count(names):
            counted.extend(names)
            digest = add_digests(*(sample_digest(rows.sample(i)) for i in range(len(rows))))
            found = {name: histogram_of(np.float32(len(name))) for name in names}
            return Stats(model, found, len(rows), digest)

        return cached(tmp_path / "cache", model, tensors, rows, runtime, count), counted

    return call


def test_what_was_counted_is_not_counted_again(look_up):
    first, counted = look_up(["a", "b"], Rows(1, 2))
    assert counted == ["a", "b"]
    again, counted = look_up(["b", "a"], Rows(2, 1))
    assert (again, counted) == (first, [])


def test_a_tensor_that_is_new_is_counted_alone_and_one_less_is_left_out(look_up):
    look_up(["a"], Rows(1))
    stats, counted = look_up(["a", "bb"], Rows(1))
    assert counted == ["bb"]
    assert list(stats.histograms) == ["a", "bb"]
    stats, counted = look_up(["bb"], Rows(1))
    assert (list(stats.histograms), counted) == (["bb"], [])


@pytest.mark.parametrize(("rows", "model"), [(Rows(1, 3), "m"), (Rows(1), "m"), (Rows(1, 2), "n")])
def test_other_data_or_another_model_is_counted_anew(look_up, rows, model):
    look_up(["a"], Rows(1, 2))
    assert look_up(["a"], rows, model)[1] == ["a"]


@pytest.mark.parametrize("extension", ["cached_ops.py", "cached_ops"])
def test_other_custom_ops_in_python_count_anew(look_up, tmp_path, monkeypatch, extension):
    monkeypatch.chdir(tmp_path)
    Path("cached_ops.py").write_text("ONE = 1\n")
    assert look_up(["a"], Rows(1), extension=extension)[1] == ["a"]
    assert look_up(["a"], Rows(1), extension=extension)[1] == []
    Path("cached_ops.py").write_text("ONE = 2\n")
    assert look_up(["a"], Rows(1), extension=extension)[1] == ["a"]
    sys.modules.pop("cached_ops", None)


def test_custom_ops_that_cannot_be_imported_are_a_model_error(look_up):
    with pytest.raises(ModelError, match="--ort-extension 'no_such_module' cannot be imported"):
        look_up(["a"], Rows(1), extension="no_such_module")


def test_a_damaged_file_is_replaced(look_up, tmp_path):
    first, _ = look_up(["a"], Rows(1))
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    again, counted = look_up(["a"], Rows(1))
    assert (again, counted) == (first, ["a"])
    assert look_up(["a"], Rows(1))[1] == []


def test_a_cache_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="not a folder"):
        cached(tmp_path / "file", "m", ["a"], Rows(1), Runtime(), lambda names: pytest.fail("run"))


def test_quantizing_with_another_method_and_skip_list_runs_no_calibration(tmp_path):
    def config(**options):
        return Config(recover="none", check_samples=0, cache=str(tmp_path), **options)

    stages = []

    def quantized(config):
        stages.clear()
        return api.quantize(
            CLASSIFIER / "classifier.onnx",
            [str(CLASSIFIER / "calib.npy")],
            config,
            progress=lambda stage, done, total: stages.append(stage),
        )

    quantized(config())
    assert "calibrate: sessions" in stages
    other = config(method="max", placement=PlanOptions(keep_first=1))
    ranges = quantized(other).ranges
    assert "calibrate" in stages  # it is read, and no sample is counted
    assert "calibrate: sessions" not in stages
    assert (
        ranges
        == api.quantize(
            CLASSIFIER / "classifier.onnx",
            [str(CLASSIFIER / "calib.npy")],
            Config(
                recover="none", check_samples=0, method="max", placement=PlanOptions(keep_first=1)
            ),
        ).ranges
    )
