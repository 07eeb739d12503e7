"""`onnxq calibrate` and `merge-stats`: any split of the data gives the same bytes."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest


@pytest.fixture
def x(images):
    return np.load(images)


@pytest.fixture
def calibrate(done, classifier):
    def call(*sources, options=()):
        data = [arg for source in sources for arg in ("--calib", source)]
        done("calibrate", classifier, *data, "--save-stats", "s.npz", "-o", "r.json", *options)
        return Path("r.json").read_bytes(), Path("s.npz").read_bytes()

    return call


def test_order_split_and_workers_do_not_change_a_byte(calibrate, images, x):
    wanted = calibrate(images)
    np.save("reversed.npy", x[::-1])
    np.save("shuffled.npy", np.random.default_rng(0).permutation(x))
    np.save("a.npy", x[:37])
    np.save("b.npy", x[37:])
    assert calibrate("reversed.npy") == wanted
    assert calibrate("shuffled.npy") == wanted
    assert calibrate("b.npy", "a.npy") == wanted
    assert calibrate(images, options=("--workers", "1")) == wanted
    assert calibrate(images, options=("--workers", "3")) == wanted


def test_shards_add_up_to_one_run(calibrate, done, classifier, images, x):
    ranges, stats = calibrate(images)
    for k, part in enumerate((x[:20], x[20:55], x[55:])):
        np.save("part.npy", part)
        calibrate("part.npy")
        Path("s.npz").rename(f"{k}.npz")
    done("merge-stats", "2.npz", "0.npz", "1.npz", "-o", "all.npz")
    assert Path("all.npz").read_bytes() == stats
    done("calibrate", classifier, "--stats", "all.npz", "-o", "merged.json")
    assert Path("merged.json").read_bytes() == ranges


@pytest.mark.parametrize("method", ["max", "entropy", "percentile:99"])
def test_another_method_is_read_off_saved_statistics(calibrate, done, classifier, images, method):
    calibrate(images)
    done("calibrate", classifier, "--stats", "s.npz", "--method", method, "-o", "read.json")
    ranges, _ = calibrate(images, options=("--method", method))
    assert Path("read.json").read_bytes() == ranges


def test_quantizing_shuffled_data_gives_the_same_ranges(done, classifier, images, x):
    np.save("shuffled.npy", np.random.default_rng(0).permutation(x))
    for data, out in ((images, "a.json"), ("shuffled.npy", "b.json")):
        done("quantize", classifier, "--calib", data, "-o", "q.onnx", "--save-ranges", out)
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()


def test_shards_of_the_command_add_up_to_one_run(calibrate, done, images):
    _, stats = calibrate(images)
    for k in (1, 2, 3):
        calibrate(images, options=("--shard", f"{k}/3"))
        Path("s.npz").rename(f"{k}.npz")
    done("merge-stats", "3.npz", "1.npz", "2.npz", "-o", "all.npz")
    assert Path("all.npz").read_bytes() == stats


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "1/"])
def test_a_shard_that_is_none_is_refused(refused, classifier, images, part):
    message = refused("calibrate", classifier, "--calib", images, "-o", "r.json", "--shard", part)
    assert "write K/N" in message


def test_a_calibration_cache_of_tensorrt_becomes_ranges(onnxq, done, classifier, images, folder):
    done("data", "--model", classifier, "--from", images, "--samples", "4", "--write-cache", "c")
    text = (folder / "c").read_text("utf-8")
    said = done("calibrate", classifier, "--from-cache", "c", "-o", "r.json").out
    assert "from a calibration cache" in said
    first = json.loads((folder / "r.json").read_text("utf-8"))["tensors"]
    lost = sorted(first)[0]
    kept = [line for line in text.splitlines() if not line.startswith(f"{lost}: ")]
    (folder / "d").write_text("\n".join(kept), "utf-8")
    ran = onnxq("calibrate", classifier, "--from-cache", "d", "-o", "s.json")
    assert ran.code == 0
    assert f"'{lost}' is not in the cache" in ran.err
    assert (
        sorted(json.loads((folder / "s.json").read_text("utf-8"))["tensors"]) == sorted(first)[1:]
    )


def test_a_cache_and_what_counts_data_exclude_each_other(refused, classifier, folder):
    (folder / "c").write_text("nothing_of_it 1\n", "utf-8")
    line = refused("calibrate", classifier, "--from-cache", "c", "--save-stats", "s.npz")
    assert "leave out --save-stats" in line
    line = refused("calibrate", classifier, "--from-cache", "c", "-o", "r.json")
    assert "it is of another model" in line
    line = refused("data", "--model", classifier, "--from", "random", "--write-cache", "d", "-o",
                   "x.npz")  # fmt: skip
    assert "--write-cache stands alone" in line


def test_saved_ranges_give_the_model_that_they_were_read_for(done, classifier, images, folder):
    shared = ("--calib", images, "--recover", "none")
    done("quantize", classifier, *shared, "--save-ranges", "r.json", "-o", "a.onnx")
    done("quantize", classifier, *shared, "--ranges", "r.json", "-o", "b.onnx")
    a, b = (onnx.load(folder / f"{name}.onnx").graph for name in "ab")
    assert a == b


def test_what_ranges_lack_stays_float_with_the_reason(done, classifier, images, folder):
    done("data", "--model", classifier, "--from", images, "--samples", "4", "--write-cache", "c")
    done("calibrate", classifier, "--from-cache", "c", "-o", "r.json")
    document = json.loads((folder / "r.json").read_text("utf-8"))
    lost = sorted(document["tensors"])[-1]
    del document["tensors"][lost]
    (folder / "r.json").write_text(json.dumps(document), "utf-8")
    done("quantize", classifier, "--calib", images, "--ranges", "r.json", "-o", "a.onnx")
    manifest = json.loads((folder / "a.onnx.manifest.json").read_text("utf-8"))
    assert any(f"no-range: '{lost}'" in note for note in manifest["notes"])
    assert manifest["data"]["samples"] == 0


def test_ranges_of_another_model_and_beside_statistics_are_refused(
    refused, done, classifier, images, folder
):
    done("calibrate", classifier, "--calib", images, "--samples", "2", "--save-stats", "s.npz",
         "-o", "r.json")  # fmt: skip
    line = refused("quantize", classifier, "--calib", images, "--ranges", "r.json", "--stats",
                   "s.npz", "-o", "a.onnx")  # fmt: skip
    assert "give one of them" in line
    document = json.loads((folder / "r.json").read_text("utf-8"))
    (folder / "r.json").write_text(json.dumps({**document, "model": "0" * 64}), "utf-8")
    line = refused("quantize", classifier, "--calib", images, "--ranges", "r.json", "-o", "a.onnx")
    assert "the ranges were observed on model" in line
