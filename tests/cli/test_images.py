"""From a folder of images to a quantized model: `--preprocess`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxq import Config, api
from onnxq.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "fixtures" / "yolo_like" / "yolo_like.onnx"
IMAGES = ROOT / "fixtures" / "images"


def test_a_folder_of_images_is_calibration_data(onnxq, folder: Path) -> None:
    ran = onnxq("quantize", MODEL, "--calib", IMAGES, "--preprocess", "yolo", "-o", "q.onnx")
    assert ran.code == 0, ran.err
    manifest = json.loads((folder / "q.onnx.manifest.json").read_text())
    assert manifest["data"]["samples"] == 4
    assert manifest["data"]["preprocess"]["fit"] == "letterbox"
    assert "--preprocess yolo" in manifest["repeat"][0]


def test_images_without_preprocess_are_answered_with_the_line_to_type(onnxq) -> None:
    ran = onnxq("quantize", MODEL, "--calib", IMAGES, "-o", "q.onnx")
    assert ran.code == 2
    assert f"--calib {IMAGES} --preprocess yolo" in ran.err


def test_arrays_with_preprocess_are_refused(onnxq, folder: Path) -> None:
    np.save(folder / "a.npy", np.zeros((2, 3, 8, 8), np.float32))
    ran = onnxq("data", "--model", MODEL, "--calib", "a.npy", "--preprocess", "yolo",
                "-o", "a.npz")  # fmt: skip
    assert ran.code == 2
    assert "--preprocess is for images" in ran.err


def test_the_steps_that_a_manifest_holds_give_the_same_samples(folder: Path) -> None:
    steps = Config(preprocess="yolo")
    source = api.open_model(MODEL)
    first = api.data(source, [str(IMAGES)], steps)
    said = folder / "steps.yaml"
    document = api.quantize(MODEL, [str(IMAGES)], steps).manifest["data"]["preprocess"]
    said.write_text(json.dumps(document))  # JSON is YAML
    again = api.data(source, [str(IMAGES)], Config(preprocess=str(said)))
    assert first.digest() == again.digest()


def test_a_file_a_sample_is_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    source = api.open_model(MODEL)
    tensor = source.graph.inputs[0]
    samples = rng.uniform(0, 1, (3, *tensor.shape[1:])).astype(np.float32)
    for i, x in enumerate(samples):
        np.save(folder / f"frame_{i}.npy", x)
    found = api.data(source, [str(folder)])
    np.testing.assert_array_equal(np.concatenate([x[tensor.name] for x in found]), samples)


def test_an_unknown_preset_is_an_error_with_the_choices(onnxq) -> None:
    ran = onnxq("quantize", MODEL, "--calib", IMAGES, "--preprocess", "yolov8")
    assert ran.code == 2
    assert "neither yolo nor imagenet nor a file" in ran.err


def test_a_broken_image_is_named(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"b\.png"):
        api.quantize(MODEL, str(folder), Config(preprocess="yolo"))
