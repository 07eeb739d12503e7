"""What quantizing costs the fixtures, in points of their own metrics."""

import importlib.util
import sys
from pathlib import Path

import pytest
from onnxq_cli.main import run

# the cost allowed is the goal for 8 bits: a point of accuracy, two of a detector's mAP50
CASES = [
    ("classifier", "classifier.onnx", "calib.npy", (), "top1", 1.0),
    ("transformer", "transformer.onnx", "calib.npz", (), "accuracy", 1.0),
    ("yolo_like", "yolo_like.onnx", "calib.npy", (), "mAP50", 2.0),
    ("centerpoint", "backbone_neck_head.onnx", "calib.npy", ("--skip", "deblocks"), "mAP", 1.0),
]


@pytest.fixture
def scorer(fixtures, monkeypatch):
    def load(name):
        path = fixtures / name / "score.py"
        monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
        spec = importlib.util.spec_from_file_location(f"score_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    before = set(sys.modules)
    yield load
    for name in set(sys.modules) - before:
        if str(fixtures) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(("name", "model", "data", "options", "metric", "points"), CASES)
def test_a_fixture_keeps_its_metric(fixtures, scorer, name, model, data, options, metric, points):
    source = fixtures / name / model
    assert run(["quantize", str(source), "--calib", str(source.with_name(data)), *options,
                "-o", "q.onnx"]) == 0  # fmt: skip
    measure = scorer(name).measure
    before, after = (measure(path)[0][metric] for path in (source, Path("q.onnx")))
    assert after >= before - points
