"""Calibration data in every form it comes in, fitted, chosen and split."""

import logging

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxq.calib.data import InputInfo, open_data
from onnxq.calib.holdout import content_order
from onnxq.calib.stats import sample_digest
from onnxq.errors import DataError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
ONE = {"x": InputInfo((None, 3, 4), F32)}
TWO = {"/image": InputInfo((None, 3), F32), "ids": InputInfo((None, 2), I64)}
X = np.random.default_rng(0).normal(size=(10, 3, 4)).astype(np.float32)
IMAGE, IDS = X[:, :, 0], np.arange(20).reshape(10, 2)


def holds(dataset, **arrays):
    """Whether the samples, in order, are the rows of `arrays`."""
    got = [np.concatenate([sample[name] for sample in dataset]) for name in arrays]
    return all(map(np.array_equal, got, arrays.values()))


def save_npz(path, save=np.savez):
    save(path, **{"/image": IMAGE, "ids": IDS})
    return str(path)


def holds_two(dataset):
    return len(dataset) == 10 and holds(dataset, **{"/image": IMAGE, "ids": IDS})


# --- forms -----------------------------------------------------------------------------------


def test_an_npy_is_mapped_and_read_a_row_at_a_time(tmp_path):
    np.save(tmp_path / "x.npy", X)
    dataset = open_data(str(tmp_path / "x.npy"), ONE)
    assert len(dataset) == 10
    assert dataset.sample(3)["x"].shape == (1, 3, 4)
    assert isinstance(dataset.rows[3][0].arrays["x"], np.memmap)
    assert holds(dataset, x=X)


def test_an_npz_is_mapped_in_place(tmp_path):
    dataset = open_data(save_npz(tmp_path / "d.npz"), TWO)
    assert isinstance(dataset.rows[3][0].arrays["ids"], np.memmap)
    assert holds_two(dataset)


def test_a_compressed_npz_is_extracted_and_mapped(tmp_path):
    dataset = open_data(save_npz(tmp_path / "d.npz", np.savez_compressed), TWO)
    assert isinstance(dataset.rows[3][0].arrays["ids"], np.memmap)
    assert holds_two(dataset)


def test_fortran_order_is_kept(tmp_path):
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(X))
    assert holds(open_data(str(tmp_path / "f.npz"), ONE), x=X)


def test_a_folder_of_npy_is_read_by_input_name(tmp_path):
    np.save(tmp_path / "_image.npy", IMAGE)  # '/' of the name is '_' in the file's
    np.save(tmp_path / "ids.npy", IDS)
    assert holds_two(open_data(str(tmp_path), TWO))


def test_a_folder_of_npz_is_a_sample_a_file_in_the_order_of_their_numbers(tmp_path):
    for i in range(10):
        np.savez(tmp_path / f"s{i}.npz", **{"/image": IMAGE[i : i + 1], "ids": IDS[i]})
    (tmp_path / "s9.npz").rename(tmp_path / "s10.npz")
    assert holds_two(open_data(str(tmp_path), TWO))  # 'ids' came without its batch axis


def test_polygraphy_inputs_are_read_from_a_file_and_from_a_folder(tmp_path):
    polygraphy_json = pytest.importorskip("polygraphy.json")
    feeds = [{"/image": IMAGE[i : i + 1], "ids": IDS[i : i + 1]} for i in range(10)]
    polygraphy_json.save_json(feeds, str(tmp_path / "inputs.json"))
    (tmp_path / "folder").mkdir()
    for i, feed in enumerate(feeds):
        polygraphy_json.save_json(feed, str(tmp_path / "folder" / f"{i:010}.json"))
    assert holds_two(open_data(str(tmp_path / "inputs.json"), TWO))
    assert holds_two(open_data(str(tmp_path / "folder"), TWO))


@pytest.mark.parametrize("names", [["/image", "ids"], ["", ""]], ids=["named", "unnamed"])
def test_onnx_test_data_sets_are_read_by_name_or_by_number(tmp_path, names):
    for i in range(10):
        folder = tmp_path / f"test_data_set_{i}"
        folder.mkdir()
        for k, x in enumerate((IMAGE, IDS)):
            tensor = onnx.numpy_helper.from_array(x[i : i + 1], names[k])
            (folder / f"input_{k}.pb").write_bytes(tensor.SerializeToString())
    assert holds_two(open_data(str(tmp_path), TWO))
    assert len(open_data(str(tmp_path / "test_data_set_3"), TWO)) == 1


def test_a_function_is_read_once_and_its_feeds_can_be_had_in_any_order(module):
    source = module(
        "def feeds():\n"
        "    for i in range(5):\n"
        "        yield {'x': np.full((1, 3, 4), i, np.float32)}\n"
    )
    dataset = open_data(source, ONE)
    assert [dataset.sample(i)["x"].flat[0] for i in (4, 0, 2)] == [4, 0, 2]


def test_an_endless_function_is_read_up_to_the_limit(module):
    source = module("def feeds():\n    while True: yield {'file': np.ones((1, 2), np.float32)}\n")
    dataset = open_data(source, {"file": InputInfo((None, 2), F32)}, limit=3)
    assert len(dataset) == 3


def test_random_data_has_to_be_asked_for_and_is_the_same_for_a_seed():
    inputs = {"x": InputInfo((None, 5), F32), "mask": InputInfo((1, 4), I64)}
    a, b = open_data("random", inputs, limit=4), open_data("random", inputs, limit=4)
    assert len(a) == 4
    assert a.digest() == b.digest() != open_data("random", inputs, limit=4, seed=1).digest()
    assert set(np.unique(a.sample(0)["mask"])) <= {0, 1}


def test_random_data_needs_the_lengths_of_all_axes():
    with pytest.raises(DataError, match="needs its lengths"):
        open_data("random", {"x": InputInfo((1, None), F32)})


def test_several_sources_follow_one_another(tmp_path):
    np.save(tmp_path / "a.npy", X[:4])
    np.savez(tmp_path / "b.npz", x=X[4:])
    dataset = open_data([str(tmp_path / "a.npy"), str(tmp_path / "b.npz")], ONE)
    assert len(dataset) == 10
    assert holds(dataset, x=X)


# --- axes and dtypes -------------------------------------------------------------------------


def test_a_fixed_batch_gets_its_samples_in_order_and_the_rest_is_named(tmp_path, caplog):
    np.save(tmp_path / "x.npy", X)
    with caplog.at_level(logging.WARNING):
        dataset = open_data(str(tmp_path / "x.npy"), {"x": InputInfo((4, 3, 4), F32)})
    assert [s["x"].shape for s in dataset] == [(4, 3, 4)] * 2
    assert holds(dataset, x=X[:8])
    assert "the last 2 of 10 samples do not fill a batch of 4" in caplog.text


def test_feeds_that_are_whole_batches_are_taken_as_they_are(tmp_path):
    np.savez(tmp_path / "0.npz", x=X[:5])
    np.savez(tmp_path / "1.npz", x=X[5:])
    dataset = open_data(str(tmp_path), {"x": InputInfo((5, 3, 4), F32)})
    assert len(dataset) == 2
    assert holds(dataset, x=X)


def test_too_few_samples_for_a_batch_is_an_error(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match="takes 16 samples at a time and the data holds 10"):
        open_data(str(tmp_path / "x.npy"), {"x": InputInfo((16, 3, 4), F32)})


def test_an_axis_more_than_the_input_has_is_the_sample_axis(tmp_path):
    np.save(tmp_path / "x.npy", X)
    dataset = open_data(str(tmp_path / "x.npy"), {"x": InputInfo((3, 4), F32)})
    assert dataset.sample(9)["x"].shape == (3, 4)
    assert np.array_equal(dataset.sample(9)["x"], X[9])


def test_a_wider_type_of_the_same_kind_takes_the_narrower(tmp_path):
    np.savez(tmp_path / "d.npz", **{"/image": IMAGE.astype(np.float16), "ids": IDS.astype("i4")})
    sample = open_data(str(tmp_path / "d.npz"), TWO).sample(0)
    assert (sample["/image"].dtype, sample["ids"].dtype) == (F32, I64)


@pytest.mark.parametrize("dtype", ["float64", "uint8", "int64"])
def test_any_other_type_is_refused_with_the_cast_to_write(tmp_path, dtype):
    np.save(tmp_path / "x.npy", X.astype(dtype))
    with pytest.raises(DataError, match=rf"expected float32, found {dtype}.*astype\(np.float32\)"):
        open_data(str(tmp_path / "x.npy"), ONE)


# --- choosing --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "x.npy"
    np.save(path, X)
    return open_data(str(path), ONE)


@given(n=st.integers(1, 10), seed=st.none() | st.integers(0, 100))
def test_a_subset_is_that_many_different_samples_in_order(ten, n, seed):
    chosen = [i for _, i in ten.subset(n, seed).rows]
    assert len(chosen) == n
    assert chosen == sorted(set(chosen))
    assert [i for _, i in ten.subset(n, seed).rows] == chosen


def test_a_subset_without_a_seed_is_evenly_spread(ten):
    assert [i for _, i in ten.subset(5).rows] == [1, 3, 5, 7, 9]
    assert ten.subset(10).digest() == ten.digest()


@given(n=st.integers(1, 9))
def test_a_split_shares_nothing_and_loses_nothing(ten, n):
    rest, held = ten.split(n)
    assert len(held) == n
    assert sorted(i for part in (rest, held) for _, i in part.rows) == list(range(10))


@pytest.mark.parametrize("n", [0, 11])
def test_a_subset_or_split_of_an_impossible_size_is_an_error(ten, n):
    with pytest.raises(DataError, match=f"cannot choose {n} samples of 10"):
        ten.subset(n)
    with pytest.raises(DataError, match=f"cannot hold out {n} of 10"):
        ten.split(n)


def test_a_subset_of_a_batched_dataset_keeps_batches_whole(tmp_path):
    np.save(tmp_path / "x.npy", X)
    dataset = open_data(str(tmp_path / "x.npy"), {"x": InputInfo((5, 3, 4), F32)})
    assert np.array_equal(dataset.select([1]).sample(0)["x"], X[5:])


def test_the_digest_depends_on_content_and_not_on_order_or_form(ten, tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=X[::-1])
    assert open_data(str(tmp_path / "x.npz"), ONE).digest() == ten.digest()
    assert ten.select(range(9)).digest() != ten.digest()


@pytest.mark.parametrize("i", [-1, 10])
def test_a_sample_that_is_not_there_is_an_index_error(ten, i):
    with pytest.raises(IndexError, match=f"sample {i} of 10"):
        ten.sample(i)


# --- files that change while they are in use -----------------------------------------------------


def in_fortran_order(path, x):
    np.save(path, np.asfortranarray(x))


def in_an_archive(path, x):
    with open(path, "wb") as file:
        np.savez(file, x=x)


FORMS = {"x.npy": np.save, "f.npy": in_fortran_order, "x.npz": in_an_archive}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("left", [0, 200, 4000])
def test_data_cut_short_while_it_is_in_use_are_refused_in_a_line(tmp_path, name, left):
    x = np.random.default_rng(0).random((400, 3, 4), np.float32)
    FORMS[name](tmp_path / name, x)
    dataset = open_data(str(tmp_path / name), ONE)
    assert np.array_equal(dataset.sample(399)["x"], x[399:])
    with open(tmp_path / name, "r+b") as file:
        file.truncate(left)  # a mapping of what is gone would end the process by SIGBUS
    with pytest.raises(DataError, match=f"{name}' changed while it was in use; start again"):
        dataset.sample(399)


@pytest.mark.parametrize("name", FORMS)
def test_data_replaced_or_removed_while_they_are_in_use_are_read_as_they_were(tmp_path, name):
    FORMS[name](tmp_path / name, X)
    dataset = open_data(str(tmp_path / name), ONE)
    FORMS[name](tmp_path / "other", X + 1)
    written = tmp_path / ("other.npy" if name.endswith("npy") else "other")
    written.replace(tmp_path / name)
    assert np.array_equal(dataset.sample(0)["x"], X[:1])
    (tmp_path / name).unlink()
    assert np.array_equal(dataset.sample(9)["x"], X[9:])


@pytest.mark.parametrize("batch", [1, 2])
def test_samples_are_ordered_by_their_keys_and_equal_ones_as_they_lie(tmp_path, rng, batch):
    x = rng.integers(0, 3, (64, 1)).astype(np.float32)  # many are equal
    np.save(tmp_path / "x.npy", x)
    data = open_data(tmp_path / "x.npy", {"x": InputInfo((batch, 1), np.dtype(np.float32))})
    facts = data.facts()
    assert content_order(data) == sorted(range(len(data)), key=lambda i: (facts[i].key, i))
    assert content_order(data.select([])) == []


def test_what_is_known_of_samples_is_each_datasets_own(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12, dtype=np.float32).reshape(6, 2))
    data = open_data(tmp_path / "x.npy", {"x": InputInfo((1, 2), np.dtype(np.float32))})
    every = list(data.facts())
    few = data.select([4, 1])
    assert list(few.facts()) == [every[4], every[1]]
    assert list(data.facts()) == every
    assert [facts.digest for facts in every] == [sample_digest(data.sample(i)) for i in range(6)]
