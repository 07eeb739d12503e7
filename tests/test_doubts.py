"""Mistakes of calibration data that both models share are named, and sound data is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array

from onnxq import Config, api
from onnxq.pipeline import doubts
from onnxq.run.runtime import Runtime

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
SHARED = FIXTURES.parent.parent / "shared"
DATA = {
    "classifier/classifier.onnx": "classifier/calib.npy",
    "centerpoint/backbone_neck_head.onnx": "centerpoint/calib.npy",
    "centerpoint/voxel_encoder.onnx": "centerpoint/voxel_encoder_calib.npy",
    "yolo_like/yolo_like.onnx": "yolo_like/calib.npy",
    "transformer/transformer.onnx": "transformer/calib.npz",
}
YOLO = FIXTURES / "yolo_like" / "yolo_like.onnx"
CLASSIFIER = FIXTURES / "classifier" / "classifier.onnx"


def doubted(model: object, data: object) -> list[str]:
    source = api.prepare(model)
    return doubts.of_data(source, api.data(source, data), Runtime())


def images(fixture: Path) -> np.ndarray:
    return np.load(fixture.parent / "calib.npy")[:8]


@pytest.mark.parametrize("model", list(DATA))
def test_no_fixture_is_doubted(model: str) -> None:
    assert doubted(FIXTURES / model, FIXTURES / DATA[model]) == []


Wrong = Callable[[np.ndarray], np.ndarray]


def scene(x: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.003, x.shape)
    return (x[:1] + noise).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "wrong", "said"),
    [
        (YOLO, lambda x: np.rint(x * 255), "as pixels never scaled; scale them"),
        (YOLO, lambda x: x / 255, "divided by 255 twice; divide once"),
        (YOLO, lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape), "transpose the images"),
        (YOLO, scene, "nearly the same as the one before"),
        (YOLO, lambda x: (x - 0.45) / 0.02, "times as far as in training"),
        (CLASSIFIER, lambda x: np.rint(x * 255), "times as far as in training"),
        (CLASSIFIER, lambda x: x * 255, "times as far as in training"),
        (CLASSIFIER, lambda x: x * 0.01 + 0.1, "times as far as in training"),
        (CLASSIFIER, lambda x: x + 30, "in training"),
    ],
)
def test_a_planted_mistake_is_named(model: Path, wrong: Wrong, said: str) -> None:
    lines = doubted(model, wrong(images(model)).astype(np.float32))
    assert any(said in line for line in lines), lines


def head(op: str, weight: float, classes: int = 6) -> onnx.ModelProto:
    """A product of 8 features, and Softmax or Sigmoid of it."""
    w = weight * np.random.default_rng(0).normal(size=(8, classes)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node(op, ["z"], ["y"])]
    graph = helper.make_graph(
        nodes, "head", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
        [from_array(w, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(("weight", "sure"), [(0.01, False), (4.0, True)])
def test_a_softmax_that_is_never_sure_is_doubted(weight: float, sure: bool) -> None:
    data = np.random.default_rng(1).normal(size=(32, 8)).astype(np.float32)
    result = api.quantize(head("Softmax", weight), data, recover="none", min_channels=1)
    said = [note for note in result.manifest["notes"] if "never sure" in note]
    assert bool(said) != sure


def test_a_model_that_takes_pixels_is_not_doubted() -> None:
    """It divides by 255 itself."""
    model = onnx.load(YOLO)
    name = model.graph.input[0].name
    model.graph.initializer.append(from_array(np.float32(255), "by"))
    for node in model.graph.node:
        node.input[:] = ["scaled" if n == name else n for n in node.input]
    model.graph.node.insert(0, helper.make_node("Div", [name, "by"], ["scaled"], "scale"))
    assert doubted(model, np.rint(images(YOLO) * 255).astype(np.float32)) == []
    lines = doubted(model, images(YOLO))
    assert any("times as far as in training" in line for line in lines), lines


def test_the_summary_says_it() -> None:
    wrong = np.rint(images(YOLO) * 255).astype(np.float32)
    result = api.quantize(YOLO, wrong, recover="none")
    assert any("pixels never scaled" in note for note in result.manifest["notes"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="there are no shared models")
def test_images_as_a_detector_takes_them_are_not_doubted() -> None:
    model, photos = SHARED / "models" / "yolo11n.onnx", SHARED / "data" / "coco" / "calib"
    source = api.prepare(model)
    data = api.data(source, str(photos), Config(preprocess="yolo", samples=8))
    assert doubts.of_data(source, data, Runtime()) == []
