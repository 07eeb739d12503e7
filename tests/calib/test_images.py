"""Images as calibration data: the numbers of the field's own code, however they are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxq.calib.images import image_paths, open_images
from onnxq.calib.preprocess import PRESETS, Preprocess, from_document, preprocess_of
from onnxq.calib.resize import linear
from onnxq.errors import DataError

IMAGES = Path(__file__).resolve().parents[2] / "fixtures" / "images"
NAMES = ("half", "small", "tall", "wide")
FLOAT = np.dtype(np.float32)


def sample(path: Path, steps: Preprocess, shape: tuple[int | None, ...], dtype=FLOAT) -> np.ndarray:
    return open_images(str(path), steps, "x", shape, np.dtype(dtype)).record(0)["x"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", ["yolo", "imagenet"])
def test_a_preset_gives_the_numbers_of_the_fields_own_code(preset: str, name: str) -> None:
    with np.load(IMAGES / "reference" / "values.npz") as reference:
        expected = reference[f"{name}.{preset}"]
    steps = PRESETS[preset]
    made = sample(IMAGES / f"{name}.png", steps, (1, 3, 64, 64))
    # theirs rounds after each step in float32, ours once
    np.testing.assert_allclose(made[0], expected, rtol=0, atol=1e-6)


def test_a_white_image_stays_white_at_any_size() -> None:
    image = np.full((7, 11, 3), 255, np.uint8)
    for size in ((14, 22), (3, 4), (64, 64), (7, 5)):
        assert (linear(image, *size) == 255).all()


def test_an_image_half_as_large_is_the_mean_of_four_pixels() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    means = image.reshape(2, 2, 3, 2, 3).astype(np.float64).mean((1, 3))
    assert np.abs(linear(image, 2, 3) - means).max() <= 0.5  # rounding to whole numbers


def test_axes_type_and_size_are_those_of_the_input() -> None:
    path = IMAGES / "wide.png"
    first = sample(path, PRESETS["yolo"], (None, 3, None, None))
    assert first.shape == (1, 3, 640, 640)
    assert first.dtype == np.float32
    last = sample(path, PRESETS["imagenet"], (None, None, None, 3))
    assert last.shape == (1, 224, 224, 3)
    np.testing.assert_array_equal(
        sample(path, PRESETS["imagenet"], (1, 3, 224, 224)), last.transpose(0, 3, 1, 2)
    )
    assert sample(path, PRESETS["yolo"], (1, 3, 32, 32), np.float16).dtype == np.float16
    pixels = sample(path, PRESETS["yolo"], (1, 32, 32, 3), np.uint8)
    assert pixels.dtype == np.uint8
    assert pixels.max() > 1


def test_one_channel_is_gray_and_bgr_turns_the_channels_round() -> None:
    path = IMAGES / "tall.png"
    assert sample(path, Preprocess(), (1, 1, 8, 8)).shape == (1, 1, 8, 8)
    rgb, bgr = (sample(path, Preprocess(color=c), (1, 3, 8, 8)) for c in ("rgb", "bgr"))
    np.testing.assert_array_equal(rgb[:, ::-1], bgr)


def test_a_camera_held_upright_is_turned_as_opencv_does(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    steps = Preprocess(fit="stretch", filter="nearest", exif=True)
    turned = sample(tmp_path / "a.png", steps, (1, 3, 16, 8))
    assert turned[0, 0, 0].all()
    assert not turned[0, 0, -1].any()


def test_a_folder_a_glob_a_list_and_a_data_yaml_name_the_same_images(tmp_path: Path) -> None:
    names = ("f_2.png", "f_10.png", "sub/f_1.png")
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "set" / name)
    (tmp_path / "set" / "notes.txt").write_text("no image")
    (tmp_path / "list.txt").write_text("\n".join(f"set/{n} 7" for n in names))
    (tmp_path / "data.yaml").write_text("path: set\nval: [.]\nnames: [a]\n")
    (tmp_path / "by_list.yaml").write_text("train: list.txt\n")
    expected = [tmp_path / "set" / name for name in names]
    for text in ("set", "set/**/*.png", "list.txt", "data.yaml", "by_list.yaml"):
        found = image_paths(str(tmp_path / text))
        assert [p.resolve() for p in found] == expected, text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preset: yolov8\n", "choose from yolo, imagenet"),
        ("preset: yolo\nmeans: [1]\n", "did you mean mean"),
        ("std: 0\n", "std not zero"),
        ("fit: squeeze\n", "choose from letterbox, crop, stretch"),
        ("size: [1, 2, 3]\n", "give [height, width]"),
        ("mean: [1, 2]\n", "one for each of 3 channels"),
        ("- 1\n", "is not a mapping of preprocessing"),
        ("a: [\n", "is not YAML of preprocessing"),
    ],
)
def test_a_file_that_is_no_preprocessing_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as e:
        preprocess_of(str(path))
    assert said in str(e.value)


def test_what_is_written_of_preprocessing_is_read_back() -> None:
    for steps in (*PRESETS.values(), Preprocess(size=(3, 4), color="bgr", layout="nhwc")):
        assert from_document(steps.as_dict(), "here") == steps


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 3), "4 axes"),
        ((1, 12, 8, 8), "has 12 channels"),
        ((1, 3, None, 8), "leaves its size open"),
    ],
)
def test_an_input_that_is_no_image_is_refused(shape: tuple[int | None, ...], said: str) -> None:
    with pytest.raises(DataError) as e:
        sample(IMAGES / "wide.png", Preprocess(), shape)
    assert said in str(e.value)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="is not an image that Pillow reads"):
        sample(tmp_path, PRESETS["yolo"], (1, 3, 8, 8))


def test_images_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_images(str(tmp_path / "none"), PRESETS["yolo"], "x", None, FLOAT)


def test_an_image_too_large_to_decode_is_named(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"a\.png' is not an image that Pillow reads"):
        sample(tmp_path / "a.png", PRESETS["yolo"], (1, 3, 32, 32))
