"""The committed fixtures are what fixtures/README.md says: valid, complete and accurate."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort
import pytest

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"

# Model, its calibration data, the number of BatchNormalization nodes, names it must contain.
MODELS = [
    (
        "centerpoint/voxel_encoder.onnx",
        "centerpoint/voxel_encoder_calib.npy",
        1,
        [
            "/pts_voxel_encoder/pfn_layers.0/linear/MatMul",
            "/pts_voxel_encoder/pfn_layers.0/norm/BatchNormalization",
        ],
    ),
    (
        "centerpoint/backbone_neck_head.onnx",
        "centerpoint/calib.npy",
        21,
        [
            "/pts_backbone/blocks.0/blocks.0.0/Conv",
            "/pts_neck/deblocks.0/deblocks.0.0/ConvTranspose",
            "/pts_bbox_head/shared_conv/conv/Conv",
            "/pts_bbox_head/task_heads.1/heatmap/heatmap.1/Conv",
        ],
    ),
    (
        "classifier/classifier.onnx",
        "classifier/calib.npy",
        13,
        ["/conv1/Conv", "/layer2/layer2.0/downsample/downsample.0/Conv", "/fc/Gemm"],
    ),
    (
        "transformer/transformer.onnx",
        "transformer/calib.npz",
        0,
        ["/encoder/layer.0/attention/self/query/MatMul", "/encoder/layer.1/output/dense/MatMul"],
    ),
    (
        "yolo_like/yolo_like.onnx",
        "yolo_like/calib.npy",
        35,
        [
            "/model.0/conv/Conv",
            "/model.2/m.0/cv1/act/Mul",
            "/model.7/m_2/MaxPool",
            "/model.14/cv3.1/cv3.1.2/Conv",
            "/model.14/dfl/conv/Conv",
        ],
    ),
]
PATHS = [model for model, *_ in MODELS]

# Model, metric, the least the float model must reach, chance or zero being far below.
SCORES = [
    ("centerpoint/backbone_neck_head.onnx", "mAP", 80.0),
    ("classifier/classifier.onnx", "top1", 99.0),
    ("transformer/transformer.onnx", "accuracy", 98.0),
    ("yolo_like/yolo_like.onnx", "mAP50", 88.0),
]


def load_scorer(fixture: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"score_{fixture}", FIXTURES / fixture / "score.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_calib(path: Path, inputs: list[str]) -> dict[str, np.ndarray]:
    if path.suffix == ".npy":
        return {inputs[0]: np.load(path)}
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


@pytest.mark.parametrize("path", PATHS)
def test_model_is_a_valid_opset_17_model(path: str) -> None:
    model = onnx.load(FIXTURES / path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]


@pytest.mark.parametrize(("path", "batch_norms"), [(m, n) for m, _, n, _ in MODELS])
def test_batch_normalization_is_kept_in_its_inference_form(path: str, batch_norms: int) -> None:
    graph = onnx.load(FIXTURES / path).graph
    nodes = [node for node in graph.node if node.op_type == "BatchNormalization"]
    assert len(nodes) == batch_norms
    assert all(len(node.output) == 1 for node in nodes)
    values = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    for node in nodes:
        mean, variance = (values[name] for name in node.input[3:])
        assert np.abs(mean).max() > 0.01, "the mean looks untrained"
        assert np.ptp(variance) > 0.01, "the variance looks untrained"


@pytest.mark.parametrize(("path", "names"), [(m, names) for m, _, _, names in MODELS])
def test_nodes_are_named_as_the_exporter_names_them(path: str, names: list[str]) -> None:
    nodes = [node.name for node in onnx.load(FIXTURES / path).graph.node]
    assert set(names) <= set(nodes)
    assert len(set(nodes)) == len(nodes)
    assert "" not in nodes


@pytest.mark.parametrize(("path", "calib"), [(m, c) for m, c, *_ in MODELS])
def test_calibration_data_feed_the_model_as_they_are(path: str, calib: str) -> None:
    session = ort.InferenceSession(str(FIXTURES / path), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    arrays = load_calib(FIXTURES / calib, [value.name for value in inputs])
    assert set(arrays) == {value.name for value in inputs}
    # Axis 0 is the sample axis: the model's batch, 1 where it is dynamic.
    batch = {v.name: v.shape[0] if isinstance(v.shape[0], int) else 1 for v in inputs}
    outputs = session.run(None, {name: a[: batch[name]] for name, a in arrays.items()})
    assert all(np.isfinite(output).all() for output in outputs)
    for value in inputs:
        assert all(
            isinstance(s, str) or s == n
            for s, n in zip(value.shape[1:], arrays[value.name].shape[1:], strict=True)
        )
        assert len(arrays[value.name]) >= 8


@pytest.mark.parametrize(("path", "metric", "least"), SCORES)
def test_float_model_reaches_its_metric(path: str, metric: str, least: float) -> None:
    metrics, outputs = load_scorer(path.split("/")[0]).measure(FIXTURES / path)
    assert least <= metrics[metric] <= 100.0
    assert len(outputs) > 0


@pytest.mark.parametrize(("path", "metric", "least"), SCORES)
def test_noise_on_the_outputs_lowers_the_metric(path: str, metric: str, least: float) -> None:
    scorer = load_scorer(path.split("/")[0])
    _, outputs = scorer.measure(FIXTURES / path)
    rng = np.random.default_rng(0)
    noisy = [
        {k: rng.permutation(v.ravel()).reshape(v.shape) for k, v in o.items()} for o in outputs
    ]
    assert scorer.score(noisy)[metric] < least - 20.0


def test_classifier_has_residual_additions_a_projection_and_an_aliased_parameter() -> None:
    nodes = onnx.load(FIXTURES / "classifier/classifier.onnx").graph.node
    types = [node.op_type for node in nodes]
    assert types.count("Add") == 5
    assert sum("downsample" in node.name for node in nodes) == 4
    assert types.count("Identity") == 2


def test_transformer_has_both_attention_products_layer_norms_and_gelu() -> None:
    nodes = onnx.load(FIXTURES / "transformer/transformer.onnx").graph.node
    types = [node.op_type for node in nodes]
    # 6 weight products and QK^T and AV in each of two blocks.
    assert types.count("MatMul") == 16
    assert [types.count(t) for t in ("Softmax", "Erf", "LayerNormalization")] == [2, 2, 5]


def test_yolo_like_decodes_its_boxes_in_the_graph() -> None:
    graph = onnx.load(FIXTURES / "yolo_like/yolo_like.onnx").graph
    values = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    dfl = next(node for node in graph.node if node.name == "/model.14/dfl/conv/Conv")
    assert values[dfl.input[1]].ravel().tolist() == list(range(16))
    # 4 box coordinates and 3 classes for 16 * 16 + 8 * 8 anchors.
    shape = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    assert shape == [1, 7, 320]
    assert {"Resize", "Split", "MaxPool", "Softmax"} <= {node.op_type for node in graph.node}


def test_score_command_prints_json_with_the_sqnr_of_each_output() -> None:
    model = "fixtures/centerpoint/backbone_neck_head.onnx"
    command = [sys.executable, "fixtures/centerpoint/score.py", model, "--ref", model]
    done = subprocess.run(command, cwd=FIXTURES.parent, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["mAP"] == result["ref"]["mAP"]
    assert set(result["sqnr_db"].values()) == {None}
    assert "heatmap_0" in result["sqnr_db"]


def test_fixture_files_stay_small() -> None:
    sizes = {
        p: p.stat().st_size for p in FIXTURES.rglob("*") if p.suffix in {".onnx", ".npy", ".npz"}
    }
    assert max(sizes.values()) < 4 << 20
    assert sum(sizes.values()) < 12 << 20
