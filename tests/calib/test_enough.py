"""What twice the data would change is told from its parts: planted cases, exact sums, any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxq import api
from onnxq.calib.enough import enough, parted
from onnxq.calib.histogram import histogram_of
from onnxq.calib.methods import parse_method
from onnxq.calib.ranges import errors_on, read_ranges
from onnxq.calib.stats import Stats, merge
from onnxq.errors import DataError
from onnxq.pipeline.config import Config
from onnxq.spec import QuantSpec

CLASSIFIER = Path(__file__).resolve().parents[2] / "fixtures" / "classifier"
MODEL, CALIB = CLASSIFIER / "classifier.onnx", str(CLASSIFIER / "calib.npy")


def told(tensors, method="mse", samples=None):
    """What is said of tensors, each given as the values of its parts."""
    count = len(next(iter(tensors.values())))
    parts = [
        Stats("m", {name: histogram_of(x[k]) for name, x in tensors.items()}, samples or 10)
        for k in range(count)
    ]

    def read(stats):
        return read_ranges(stats, parse_method(method), QuantSpec())

    whole = merge(*parts)
    return enough(parts, read(whole), read, lambda found: errors_on(whole, found, {}))


@pytest.fixture
def steady(rng):
    """Eight parts of many values of one distribution."""
    return rng.standard_normal((8, 40_000)).astype(np.float32)


def test_parts_that_are_alike_say_that_the_data_are_enough(steady):
    found = told({"steady": steady})
    assert abs(found.tensors["steady"].change_db) < 0.01
    assert found.tensors["steady"].needed == 10  # a part: of fewer nothing is known
    assert found.together.change_db == pytest.approx(found.tensors["steady"].change_db)
    assert "10 do, for less than 0.1 dB" in found.line()


def test_a_tensor_that_a_few_samples_make_is_named_and_asks_for_more(steady, rng):
    rare = steady.copy()
    rare[5, :400] *= 30  # one part in eight has what none of the others has
    found = told({"steady": steady, "rare": rare})
    assert found.worst == "rare"
    assert found.tensors["rare"].change_db > 0.5
    assert found.tensors["rare"].error_db > 0.5
    assert found.tensors["rare"].needed > 80
    assert found.tensors["steady"].needed == 10
    assert "'rare'" in found.line()
    assert "are needed" in found.line()


def test_the_figure_is_what_doubling_does_in_the_mean_over_many_draws(rng):
    spec, method = QuantSpec(), parse_method("mse")
    fresh = Stats("m", {"x": histogram_of(rng.laplace(size=400_000))}, 1)
    said, true = [], []
    for _ in range(60):
        values = rng.laplace(size=(16, 60)).astype(np.float32)
        said.append(told({"x": values[:8]}).tensors["x"].change_db)
        two = [Stats("m", {"x": histogram_of(values[:n])}, 1) for n in (8, 16)]
        read = [read_ranges(stats, method, spec) for stats in two]
        half, all_ = errors_on(fresh, read, {})["x"]
        true.append(10 * np.log10(half / all_))
    spread = np.std(np.array(said) - true) / np.sqrt(len(true))
    assert np.mean(said) == pytest.approx(np.mean(true), abs=3 * spread)  # three standard errors
    assert np.mean(said) > 3 * np.std(said) / np.sqrt(len(said))  # and it is no zero


def test_a_maximum_that_grows_says_so(rng):
    values = rng.laplace(size=(8, 1000)).astype(np.float32)
    found = told({"x": values}, method="max").tensors["x"]
    assert found.move > 0.01
    assert found.error_db >= abs(found.change_db)


def test_the_order_of_the_parts_in_the_data_does_not_change_the_figures():
    data = np.load(CALIB)
    wanted = api.calibrate_model(MODEL, [CALIB], Config(samples=48), enough=True)
    np.save("turned.npy", np.load(CALIB)[_spread(48, len(data))][::-1])
    turned = api.calibrate_model(MODEL, ["turned.npy"], Config(), enough=True)
    assert turned.enough == wanted.enough
    assert turned.ranges == wanted.ranges


def _spread(n, length):
    return [(2 * i + 1) * length // (2 * n) for i in range(n)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_parts_add_up_to_what_is_counted_at_once():
    config = Config(samples=32)
    apart = api.calibrate_model(MODEL, [CALIB], config, enough=True)
    once = api.calibrate_model(MODEL, [CALIB], config)
    assert apart.stats == once.stats
    assert apart.ranges == once.ranges
    assert apart.enough.samples == 32
    assert set(apart.enough.tensors) <= set(once.ranges.tensors)


def test_a_cache_counts_the_same_parts(tmp_path):
    plain = api.calibrate_model(MODEL, [CALIB], Config(samples=16), enough=True)
    kept = Config(samples=16, cache=str(tmp_path / "cache"))
    assert api.calibrate_model(MODEL, [CALIB], kept, enough=True).enough == plain.enough


@pytest.mark.parametrize(("samples", "parts"), [(1, 1), (3, 1), (4, 2), (15, 4), (16, 8), (99, 8)])
def test_a_part_has_two_samples_at_least(samples, parts):
    dataset = api.data(api.open_model(MODEL), [CALIB], Config(samples=samples))
    found = parted(dataset)
    assert len(found) == parts
    assert sum(map(len, found)) == samples
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="3 samples cannot tell whether they are enough; give at"):
        api.calibrate_model(MODEL, [CALIB], Config(samples=3), enough=True)


def test_statistics_without_parts_are_refused():
    stats = api.calibrate_model(MODEL, [CALIB], Config(samples=4)).stats
    with pytest.raises(DataError, match="--enough counts parts of the data"):
        api.calibrate_model(MODEL, [], stats_from=stats, enough=True)
