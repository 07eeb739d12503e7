"""Files appear whole, together or not at all, and never take the place of what is no file."""

import os
from pathlib import Path

import pytest

from onnxq.errors import OnnxqError
from onnxq.files import drop, replacing, together

posix = pytest.mark.skipif(os.name != "posix", reason="devices and links of POSIX")


def write(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_group_within_a_group_ends_with_the_outer_one(tmp_path):
    def first_of_two():
        with together():
            with together():
                write(tmp_path / "a", "1")
            raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        first_of_two()
    assert names(tmp_path) == []
    with together():
        with together():
            write(tmp_path / "a", "1")
        assert not (tmp_path / "a").exists()
        write(tmp_path / "b", "2")
    assert names(tmp_path) == ["a", "b"]


def test_where_one_file_cannot_have_its_name_the_others_are_as_before(tmp_path):
    (tmp_path / "old").write_text("before")
    (tmp_path / "link").symlink_to("old")

    def four():
        with together():
            for name in ("new", "old", "link", "last"):
                write(tmp_path / name, "after")
            (tmp_path / "last").mkdir()  # in the meantime

    with pytest.raises(OSError, match="directory"):
        four()
    assert names(tmp_path) == ["last", "link", "old"]
    assert (tmp_path / "old").read_text() == "before"
    assert (tmp_path / "link").is_symlink()


def test_what_names_other_files_appears_last(tmp_path, monkeypatch):
    appeared, replace = [], Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda a, b: (appeared.append(Path(b).name), replace(a, b))[1]
    )
    with together():
        with replacing(tmp_path / "model", last=True):
            pass
        write(tmp_path / "data", "1")
        write(tmp_path / "manifest", "1")
    assert appeared == ["data", "manifest", "model"]


def test_an_old_file_goes_when_the_new_ones_are_there_and_stays_where_they_are_not(tmp_path):
    (tmp_path / "old").write_text("1")

    def failing():
        with together():
            drop(tmp_path / "old")
            raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        failing()
    assert names(tmp_path) == ["old"]
    with together():
        drop(tmp_path / "old")
        write(tmp_path / "new", "2")
        assert (tmp_path / "old").exists()
    assert names(tmp_path) == ["new"]


@posix
def test_a_device_a_pipe_and_a_link_to_either_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (tmp_path / "fifo", tmp_path / "null", Path("/dev/null"), Path("/dev/new"),
                 Path("/dev/stdout"), Path("/proc/self/fd/1")):  # fmt: skip
        with pytest.raises(OnnxqError, match="is a device or a pipe"), replacing(path):
            pass
    assert names(tmp_path) == ["fifo", "null"]
