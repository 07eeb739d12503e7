"""Statistics: merged exactly, saved whole, refused where they do not belong."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxq.calib.histogram import EMPTY, histogram_of
from onnxq.calib.stats import Stats, add_digests, merge, sample_digest
from onnxq.errors import DataError

SAMPLES = st.lists(
    hnp.arrays(np.float32, 5, elements=st.floats(-100, 100, width=32)), min_size=1, max_size=6
)


def stats_of(samples, model="a" * 64):
    return Stats(
        model,
        {"x": histogram_of(*samples), "relu": histogram_of(*(np.maximum(s, 0) for s in samples))},
        len(samples),
        add_digests(*(sample_digest({"x": s}) for s in samples)),
    )


@given(SAMPLES, st.integers(0, 6), st.randoms(use_true_random=False))
def test_any_split_and_order_of_the_data_gives_equal_statistics(samples, at, random):
    whole = stats_of(samples)
    random.shuffle(samples)
    assert merge(stats_of(samples[:at]), stats_of(samples[at:])) == whole


@given(SAMPLES, SAMPLES, SAMPLES)
def test_merging_is_associative_and_commutative(a, b, c):
    x, y, z = stats_of(a), stats_of(b), stats_of(c)
    assert merge(merge(x, y), z) == merge(x, merge(z, y))


def test_a_tensor_that_only_one_shard_counted_is_kept():
    a = Stats("m", {"x": histogram_of([1.0])}, 1)
    b = Stats("m", {"y": histogram_of([2.0])}, 1)
    assert list(merge(b, a).histograms) == ["x", "y"]


def test_statistics_of_different_models_do_not_merge():
    with pytest.raises(DataError, match=r"different models, a{12} and b{12}"):
        merge(stats_of([np.ones(5)]), stats_of([np.ones(5)], "b" * 64))


def test_merging_nothing_is_an_error():
    with pytest.raises(DataError, match="name at least one"):
        merge()


@given(SAMPLES)
def test_saving_and_loading_gives_the_same_statistics(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("stats") / "stats.npz"
    stats = stats_of(samples)
    stats.save(path)
    assert Stats.load(path) == stats


def test_statistics_of_no_tensor_and_of_an_unseen_tensor_survive_a_round_trip(tmp_path):
    for stats in (Stats("m", {}, 0), Stats("m", {"never seen": EMPTY}, 0)):
        stats.save(tmp_path / "stats.npz")
        assert Stats.load(tmp_path / "stats.npz") == stats


def test_equal_statistics_are_saved_as_equal_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        stats_of([np.arange(5)]).save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_only_the_statistics_file_is_left_after_saving(tmp_path):
    stats_of([np.arange(5)]).save(tmp_path / "stats.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["stats.npz"]


def test_a_wrong_version_is_refused_with_both_named(tmp_path):
    header = json.dumps({"kind": "onnxq.stats", "version": 9}).encode()
    np.savez(tmp_path / "s.npz", header=np.frombuffer(header, np.uint8))
    expected = "expected kind 'onnxq.stats' version 1, found 'onnxq.stats' version 9"
    with pytest.raises(DataError, match=expected):
        Stats.load(tmp_path / "s.npz")


def test_an_npz_of_data_is_refused_as_statistics(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones(3))
    with pytest.raises(DataError, match="found 'None' version None"):
        Stats.load(tmp_path / "data.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a statistics file or is cut short"):
        Stats.load(tmp_path / "s.npz")


def test_a_statistics_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "s.npz"
    stats_of([np.arange(5)]).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="cut short"):
        Stats.load(path)


def test_histograms_that_do_not_fill_the_header_are_refused(tmp_path):
    path = tmp_path / "s.npz"
    stats_of([np.arange(5)]).save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "counts": arrays["counts"][:-1]})
    with pytest.raises(DataError, match="not a statistics file"):
        Stats.load(path)


def test_a_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(DataError, match="onnxq calibrate --save-stats"):
        Stats.load(tmp_path / "none.npz")


def test_an_unobserved_tensor_is_an_error():
    with pytest.raises(DataError, match="no statistics for tensor 'y'"):
        stats_of([np.arange(5)])["y"]


def test_another_model_is_refused_by_hash():
    stats_of([np.arange(5)]).check_model("a" * 64)
    with pytest.raises(DataError, match=r"model a{12}, this one is b{12}"):
        stats_of([np.arange(5)]).check_model("b" * 64)


def test_digests_tell_samples_apart_by_name_shape_and_dtype():
    x = np.zeros((2, 3), np.float32)
    others = ({"y": x}, {"x": x.reshape(3, 2)}, {"x": x.view(np.int32)}, {"x": x + 1})
    assert len({sample_digest(s) for s in ({"x": x}, *others)}) == 5


@pytest.mark.parametrize(
    ("name", "spoil", "why"),
    [
        ("counts", lambda x: x.astype(np.float64), "'counts' is float64, expected int64"),
        ("counts", lambda x: -x, "out of order or empty"),
        ("bins", lambda x: x[::-1], "out of order or empty"),
        ("minmax", lambda x: x * np.float32(np.inf), "goes from"),
        ("offsets", lambda x: x[:-1], "1 tensors"),
    ],
)
def test_statistics_that_cannot_have_been_counted_are_refused(tmp_path, name, spoil, why):
    counted = histogram_of(np.array([-2.0, 1.0, 3.0], np.float32))
    Stats("m", {"x": counted}, 1).save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as archive:
        arrays = dict(archive)
    arrays[name] = spoil(arrays[name])
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(DataError, match=why):
        Stats.load(tmp_path / "s.npz")
