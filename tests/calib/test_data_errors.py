"""Each way calibration data can be wrong has one line that says what, where and how to mend it."""

import numpy as np
import pytest

from onnxq.calib.data import InputInfo, open_data
from onnxq.errors import DataError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
ONE = {"x": InputInfo((None, 3, 4), F32)}
TWO = {"/image": InputInfo((None, 3), F32), "ids": InputInfo((None, 2), I64)}
X = np.random.default_rng(0).normal(size=(10, 3, 4)).astype(np.float32)
IMAGE, IDS = X[:, :, 0], np.arange(20).reshape(10, 2)


def refused(source, inputs=ONE):
    with pytest.raises(DataError) as e:
        open_data(str(source), inputs)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_a_missing_source_lists_the_forms(tmp_path):
    message = refused(tmp_path / "none.npy")
    assert "no calibration data at" in message
    assert "module:function, or 'random'" in message


def test_nothing_to_open_is_an_error():
    with pytest.raises(DataError, match="name at least one"):
        open_data([], ONE)


def test_empty_data_is_an_error(tmp_path):
    (tmp_path / "empty.npy").touch()
    assert "is empty" in refused(tmp_path / "empty.npy")
    np.save(tmp_path / "none.npy", X[:0])
    assert "holds no samples" in refused(tmp_path / "none.npy")
    np.savez(tmp_path / "none.npz", x=X[:0])
    assert "holds no samples" in refused(tmp_path / "none.npz")
    np.savez(tmp_path / "bare.npz")
    assert "holds no arrays" in refused(tmp_path / "bare.npz")


@pytest.mark.parametrize("cut", [40, 200])
def test_a_truncated_npy_is_an_error(tmp_path, cut):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:cut])
    assert "cannot be read or is cut short" in refused(tmp_path / "x.npy")


@pytest.mark.parametrize("spoiled", [b"{'descr'(", b"\xff\x00", b"'"])
def test_an_npy_with_a_spoiled_header_is_an_error(tmp_path, spoiled):
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:10] + spoiled + whole[10 + len(spoiled) :])
    assert "cannot be read or is cut short" in refused(tmp_path / "x.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_npz_is_an_error(tmp_path, save):
    save(tmp_path / "x.npz", x=X)
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:300])
    assert "cannot be read or is cut short" in refused(tmp_path / "x.npz")


def test_a_damaged_compressed_npz_is_an_error(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=X)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[200:300] = bytes(100)
    (tmp_path / "x.npz").write_bytes(content)
    assert "cannot be read" in refused(tmp_path / "x.npz")


def test_pickles_are_not_read_in_any_form(tmp_path):
    objects = np.array([{"a": 1}, None], object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=objects)
    np.savez_compressed(tmp_path / "c.npz", x=objects)
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "folder" / "0.npz", x=objects)
    for name in ("x.npy", "x.npz", "c.npz", "folder"):
        assert "pickled Python objects" in refused(tmp_path / name)


def test_a_wrong_shape_shows_both(tmp_path):
    np.save(tmp_path / "x.npy", X.transpose(0, 2, 1))
    message = refused(tmp_path / "x.npy")
    assert "input 'x': expected float32 (?, 3, 4), found float32 (samples, 4, 3)" in message


def test_a_sample_without_its_sample_axis_is_not_taken_apart(tmp_path):
    np.save(tmp_path / "x.npy", X[0])
    assert "found float32 (samples, 4); the first axis is the sample axis" in refused(
        tmp_path / "x.npy"
    )


def test_a_single_number_is_no_data(tmp_path):
    np.save(tmp_path / "x.npy", np.float32(1))
    assert "a single number" in refused(tmp_path / "x.npy")


def test_wrong_and_missing_names_are_told_with_the_right_ones(tmp_path):
    np.savez(tmp_path / "d.npz", **{"/image": IMAGE, "id": IDS})
    message = refused(tmp_path / "d.npz", TWO)
    assert "lacks input 'ids' but holds 'id'; the model's inputs are '/image', 'ids'" in message
    np.savez(tmp_path / "d.npz", x=X, label=np.arange(10))
    assert "holds 'label'; the model's inputs are 'x'" in refused(tmp_path / "d.npz")


def test_different_numbers_of_samples_are_told_by_input(tmp_path):
    np.savez(tmp_path / "d.npz", **{"/image": IMAGE[:4], "ids": IDS})
    assert "'/image' 4, 'ids' 10" in refused(tmp_path / "d.npz", TWO)


def test_one_npy_is_not_enough_for_two_inputs(tmp_path):
    np.save(tmp_path / "x.npy", X)
    assert "this one has 2: '/image', 'ids'" in refused(tmp_path / "x.npy", TWO)


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "x.txt").write_text("1 2 3")
    assert "found '.txt'" in refused(tmp_path / "x.txt")


def test_a_folder_of_nothing_or_of_several_kinds_is_an_error(tmp_path):
    assert "found none of them" in refused(tmp_path)
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", x=X)
    assert "one kind only; found .npy and .npz" in refused(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '[{"x": 1}]', '[{"x": {"array": "AAAA"}}]'])
def test_json_that_polygraphy_did_not_write_is_an_error(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    assert "not what 'polygraphy run --save-inputs' writes" in refused(tmp_path / "x.json")


def test_a_damaged_test_data_set_is_an_error(tmp_path):
    (tmp_path / "test_data_set_0").mkdir()
    (tmp_path / "test_data_set_0" / "input_0.pb").write_bytes(b"\x00not a tensor")
    assert "input_0.pb' cannot be read" in refused(tmp_path)


def test_a_function_that_is_not_there_or_yields_something_else_is_an_error(module):
    assert "cannot be imported" in refused("no_such_module:feeds")
    module("def feeds(): yield np.ones(3)\n")
    assert "cannot be imported" in refused("some_data:nothing")
    assert "yields ndarray as record 0" in refused("some_data:feeds")
    module("def feeds(): return 3\n")
    assert "gives int" in refused("some_data:feeds")
    module("def feeds(): yield {'x': np.array([None])}\n")
    assert "array of Python objects" in refused("some_data:feeds")
    module("def feeds(): yield from ()\n")
    assert "holds no samples" in refused("some_data:feeds")
    module("raise ValueError('no such folder')\n")
    said = "cannot be imported (ValueError: no such folder, at some_data.py:2 in <module>)"
    assert said in refused("some_data:feeds")


def test_a_mistake_in_the_users_function_is_told_with_its_place(module):
    module("""
def good():
    for _ in range(5):
        yield {"x": np.zeros((1, 3, 4), np.float32)}

def late():
    yield from good()
    np.ones(3).reshape(7)

def nothing():
    raise SystemExit

def ragged():
    yield {"x": [[1], [2, 3]]}

def doubles():
    yield from good()
    yield {"x": np.zeros((1, 3, 4))}

def asks(n):
    yield from good()

def talks():
    print("loading")
    yield from good()
""")
    message = refused("some_data:late")
    assert message.startswith("'some_data:late' failed at record 5: ValueError: cannot reshape")
    assert message.endswith(", at some_data.py:9 in late")
    assert "'some_data:nothing' failed: SystemExit, at some_data.py:12" in refused(
        "some_data:nothing"
    )
    assert "record 0, 'x' cannot be made an array of numbers: Val" in refused("some_data:ragged")
    assert "failed: TypeError: asks() missing 1 required" in refused("some_data:asks")
    with pytest.raises(DataError, match="'some_data:doubles' record 5, input 'x': expected float3"):
        list(open_data("some_data:doubles", ONE))


def test_what_the_users_function_prints_goes_to_stderr(module, capsys):
    module("def feeds():\n    print('loading')\n    yield {'x': np.zeros((1, 3, 4), np.float32)}\n")
    assert len(open_data("some_data:feeds", ONE)) == 1
    assert capsys.readouterr() == ("", "loading\n")


@pytest.mark.parametrize("names", [("x.npy", "x.npz"), ("x.npz", "x.npy")])
def test_an_array_and_an_archive_are_read_whatever_their_names_end_in(tmp_path, names):
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", x=X)
    (tmp_path / names[0]).rename(tmp_path / names[1])
    found = open_data(str(tmp_path / names[1]), ONE)
    assert np.array_equal(np.concatenate([s["x"] for s in found]), X)


def test_text_is_no_numpy_file_and_not_said_to_be_a_pickle(tmp_path):
    (tmp_path / "x.npy").write_text("1,2,3")
    assert "is not a NumPy file, it begins with b'1,2,3'" in refused(tmp_path / "x.npy")


def test_a_later_sample_that_does_not_fit_is_told_when_it_is_read(tmp_path):
    np.savez(tmp_path / "0.npz", x=X[:1])
    np.savez(tmp_path / "1.npz", x=X[:1, :2])
    dataset = open_data(str(tmp_path), ONE)
    with pytest.raises(DataError, match=r"1.npz', input 'x': expected float32 \(\?, 3, 4\)"):
        dataset.sample(1)
