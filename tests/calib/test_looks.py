"""Data that is wrong in a way that figures cannot show is named; data that is right is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxq.calib.images import open_images
from onnxq.calib.looks import alike, look
from onnxq.calib.preprocess import PRESETS

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "fixtures" / "images"


def pictures(preset: str = "yolo") -> list[np.ndarray]:
    source = open_images(str(IMAGES), PRESETS[preset], "x", (1, 3, 64, 64), np.dtype(np.float32))
    return [source.record(i)["x"] for i in range(len(source))]


def lines(arrays: list[np.ndarray]) -> list[str]:
    return [str(odd) for odd in look([{"x": x.astype(np.float32)} for x in arrays])]


@pytest.mark.parametrize("preset", list(PRESETS))
def test_images_prepared_as_they_should_be_are_not_named(preset: str) -> None:
    assert lines(pictures(preset)) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: np.rint(x * 255), "pixels never scaled"),
        (lambda x: x / 255, "divided by 255 twice"),
        (lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape), "read as channels first"),
    ],
)
def test_a_mistake_of_preprocessing_is_named(wrong, said: str) -> None:
    (line,) = lines([wrong(x) for x in pictures()])
    assert said in line


def test_classes_and_flags_are_no_pixels() -> None:
    rng = np.random.default_rng(0)
    assert lines([rng.integers(0, 10, (1, 4, 16, 16)) for _ in range(4)]) == []


@pytest.mark.parametrize("name", ["classifier/calib.npy", "centerpoint/calib.npy",
                                  "yolo_like/calib.npy"])  # fmt: skip
def test_no_fixture_is_named(name: str) -> None:
    data = np.load(ROOT / "fixtures" / name)
    assert lines([data[i : i + 1] for i in range(min(8, len(data)))]) == []


def test_a_frame_of_the_same_scene_is_alike_and_another_picture_is_not() -> None:
    rng = np.random.default_rng(0)
    first, other = (x.reshape(-1)[::97] for x in pictures()[2:4])
    next_frame = first + rng.normal(0, 0.005, first.shape).astype(np.float32)
    assert alike(first, next_frame)
    assert not alike(first, other)
    assert not alike(first, first)  # the same: said elsewhere


def test_small_noise_is_no_interleaved_image():
    rng = np.random.default_rng(0)
    noise = [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(64)]
    assert not [oddity for oddity in look(noise) if oddity.kind == "interleaved"]
