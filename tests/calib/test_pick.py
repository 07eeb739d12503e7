"""Samples that stand for all: exact signatures, one set for any order, and what is picked."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from onnxq import api
from onnxq.calib import histogram
from onnxq.calib.pick import pick
from onnxq.calib.signatures import DEPTH, Signatures, merge
from onnxq.errors import DataError
from onnxq.pipeline.config import Config
from onnxq.pipeline.steps import picked

CLASSIFIER = Path(__file__).resolve().parents[2] / "fixtures" / "classifier"
MODEL, CALIB = CLASSIFIER / "classifier.onnx", CLASSIFIER / "calib.npy"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images():
    return np.load(CALIB)[:24]


def signed(rows, *files, name="rows.npy", workers=2):
    np.save(name, rows)
    return api.sign_data(MODEL, [name], Config(workers=workers), [Path(file) for file in files])


def equal(a, b):
    return (
        (a.model, a.tensors, a.digests) == (b.model, b.tensors, b.digests)
        and np.array_equal(a.amax, b.amax)
        and np.array_equal(a.counts, b.counts)
    )


def made(*samples):
    """Signatures of one tensor, of samples given as (amax, counts of the first octaves)."""
    counts = np.zeros((len(samples), 1, DEPTH), np.uint32)
    for i, (_, few) in enumerate(samples):
        counts[i, 0, : len(few)] = few
    amax = np.array([[a] for a, _ in samples], np.float32)
    return Signatures("m", ("x",), tuple(f"{i:064x}" for i in range(len(samples))), amax, counts)


@pytest.mark.parametrize("compiled", [True, False])
def test_octaves_are_those_of_the_values(rng, monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(histogram, "_binning", None)
    octaves = histogram.Octaves()
    for size in (5, 70_000, 0, 1000):
        x = (rng.standard_normal(size) * 2.0 ** rng.integers(-20, 20, size)).astype(np.float32)
        x[: size // 5] = 0
        counts, low, high = octaves.count(x)
        exponents = np.frexp(x[x != 0])[1] + 126
        wanted = np.bincount(exponents, minlength=256)
        wanted[0] += (x == 0).sum()
        assert np.array_equal(counts, wanted)
        assert (low, high) == (x.min(initial=np.inf), x.max(initial=-np.inf))


def test_signatures_are_those_of_the_statistics_of_the_sample_alone(images):
    found = signed(images[:3])
    for row in images[:3]:
        np.save("one.npy", row[None])
        stats = api.calibrate_model(MODEL, ["one.npy"]).stats
        i = found.digests.index(stats.data)
        for k, name in enumerate(found.tensors):
            assert found.amax[i, k] == np.float32(stats[name].amax)
            assert found.counts[i, k].sum() == stats[name].count


def test_order_and_workers_change_nothing(images):
    wanted = signed(images)
    turned = signed(images[::-1], workers=1)
    assert equal(turned, wanted)
    assert pick(turned, 5) == pick(wanted, 5)


def test_shards_are_put_together_to_the_same_set(images):
    wanted = signed(images)
    a, b = signed(images[:15]), signed(images[10:])
    assert equal(merge(a, b), wanted)
    assert equal(merge(b, a), wanted)
    assert equal(merge(wanted, a), wanted)


def test_a_file_keeps_what_is_known_and_takes_in_what_is_new(images, monkeypatch):
    signed(images[:12], "a.npz")
    signed(images[12:20], "b.npz")
    both = signed(images[:20], "a.npz", "b.npz")
    assert equal(Signatures.load("a.npz"), both)
    assert equal(signed(images, "a.npz"), signed(images))
    kept = Path("a.npz").read_bytes()
    monkeypatch.setattr("onnxq.calib.signatures.compile_counting", lambda *_: pytest.fail("it ran"))
    assert len(signed(images, "a.npz")) == len(images)
    assert len(signed(images[:3], "a.npz")) == 3
    assert Path("a.npz").read_bytes() == kept


def test_equal_samples_count_once(images):
    assert equal(signed(np.concatenate([images, images[:7]])), signed(images))


def test_what_is_picked_is_written_in_the_order_of_the_picks_whatever_that_of_the_data(images):
    np.save("there.npy", images)
    np.save("back.npy", images[::-1])
    for name in ("there", "back"):
        assert api.write_data(MODEL, [f"{name}.npy"], f"{name}.npz", pick=6) == 6
    there, back = (np.load(f"{name}.npz")["image"] for name in ("there", "back"))
    assert np.array_equal(there, back)
    assert len({row.tobytes() for row in there} & {row.tobytes() for row in images}) == 6


def test_the_first_pick_is_the_one_that_is_most_like_the_mean():
    found = made((1, [9, 1]), (8, [1, 9]), (2.8, [5, 5]), (3, [5, 5]), (2.9, [5, 5]))
    assert pick(found, 1)[0] in found.digests[2:]


def test_picks_keep_the_shares_of_kinds():
    common = [(1.0 + i / 1000, [100, 50, 850]) for i in range(30)]
    rare = [(16.0 + i / 100, [1, 1, 998]) for i in range(10)]
    found = made(*common, *rare)
    chosen = [found.digests.index(d) for d in pick(found, 8)]
    assert sum(i >= 30 for i in chosen) == 2  # a quarter of all, a quarter of the picks


def test_all_can_be_picked_and_no_more():
    found = made((1, [1]), (2, [1]), (3, [1]))
    assert sorted(pick(found, 3)) == list(found.digests)
    with pytest.raises(DataError, match=re.escape("cannot pick 4 of 3 different samples")):
        pick(found, 4)


def test_a_tensor_of_zeros_is_no_obstacle():
    found = made((0, [10]), (0, [10]), (1, [5, 5]))
    assert len(pick(found, 2)) == 2


def test_signatures_of_another_model_are_refused(images):
    other = made((1, [1]))
    other.save("other.npz")
    with pytest.raises(DataError, match="the signatures are of model m, this one is"):
        signed(images, "other.npz")


def test_what_is_saved_is_what_is_read():
    found = made((1, [1, 2]), (2, [3]))
    found.save("s.npz")
    assert equal(Signatures.load("s.npz"), found)
    Path("s.npz").write_bytes(Path("s.npz").read_bytes()[:300])
    with pytest.raises(DataError, match="is not a file of signatures or is cut short"):
        Signatures.load("s.npz")


def test_a_dataset_of_picks_holds_them_in_their_order(images):
    np.save("rows.npy", images)
    dataset = api.data(api.open_model(MODEL), ["rows.npy"])
    found = picked(dataset, signed(images), 4)
    assert [facts.digest for facts in found.facts()] == pick(signed(images), 4)
