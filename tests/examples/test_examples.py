"""The examples run as their READMEs say, offline, on the fixtures."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
READMES = sorted(EXAMPLES.rglob("README.md"))


@pytest.fixture
def run(tmp_path):
    """Run an example's script; returns the rows of the table that it prints last."""

    def call(name, *options):
        paths = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
        done = subprocess.run(
            [sys.executable, EXAMPLES / name / "run.py", *map(str, options)],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        text = done.stdout[done.stdout.rindex("\nmodel ") :]
        return done.stdout, [re.split(r"  +", line) for line in text.strip().splitlines()]

    return call


@pytest.fixture
def yolo(monkeypatch):
    """`yolo(name)`: a module of the YOLO example."""
    pytest.importorskip("PIL", reason="Pillow, of examples/yolo/requirements.txt, is not here")
    monkeypatch.syspath_prepend(str(EXAMPLES / "yolo"))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / "yolo" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_the_classifier_keeps_its_top1_and_gains_sqnr_by_the_skip_list(run, tmp_path):
    printed, (_, plain, every, spared) = run("classifier", "--worst", 3)
    assert "$ onnxq sensitivity" in printed
    assert float(every[1]) >= float(plain[1]) - 1  # the goal for 8 bits: a point
    assert float(spared[2]) > float(every[2])
    assert len((tmp_path / "classifier-out" / "skip.txt").read_text().splitlines()) == 4


def test_centerpoint_keeps_its_map_with_both_models_quantized(run):
    printed, (_, plain, backbone, both) = run("centerpoint")
    assert "float  --skip deblocks" in printed
    for row in (backbone, both):
        assert float(row[1]) >= float(plain[1]) - 1  # as above


def test_yolo_keeps_its_coco_map(run, tmp_path):
    pytest.importorskip("PIL", reason="Pillow, of examples/yolo/requirements.txt, is not here")
    pytest.importorskip(
        "pycocotools", reason="pycocotools, of examples/yolo/requirements.txt, is not here"
    )
    _, (_, plain, quantized, *_) = run("yolo", "--runs", 2)
    assert float(plain[2]) > 80
    assert float(quantized[2]) >= float(plain[2]) - 2  # the goal for a detector's mAP50
    assert plain[3] == "100.0 ± 0.0%"
    assert float(quantized[3].split()[0]) > 80
    assert float(quantized[5]) < float(plain[5]) / 2
    calib = np.load(tmp_path / "yolo-out" / "calib.npy")
    assert (calib.shape, calib.dtype) == ((10, 3, 128, 128), np.float32)


def test_detections_are_the_same_by_class_and_overlap(yolo):
    pytest.importorskip(
        "pycocotools", reason="pycocotools, of examples/yolo/requirements.txt, is not here"
    )
    yolo("letterbox")
    yolo("coco_map")
    agreement = yolo("agreement").agreement
    boxes = np.array([[0, 0, 10, 10], [20, 0, 40, 20], [50, 50, 60, 60]], float)
    found = boxes, np.array([0.9, 0.8, 0.1]), np.array([0, 1, 2])  # the last is no detection
    other = np.add(boxes, [0, 0, 0, 0.5]), np.array([0.8, 0.9, 0.9]), np.array([0, 0, 2])
    none = np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
    assert agreement({1: found}, {1: found}) == (100, 0)
    assert agreement({1: found}, {1: other})[0] == pytest.approx(40)  # 2 of 2 and 3
    share, error = agreement({1: found, 2: found}, {1: other, 2: none})
    assert share == pytest.approx(100 * 2 / 7)
    # e = (2 - 5 R) / 7 and (0 - 2 R) / 7
    assert error == pytest.approx(100 * np.sqrt(2 * ((4 / 7 / 7) ** 2 + (4 / 7 / 7) ** 2)))
    assert agreement({1: none}, {1: none}) == (100, 0)


def test_boxes_come_back_from_the_letterbox(yolo, tmp_path):
    from PIL import Image

    letterbox = yolo("letterbox")
    image = np.zeros((60, 100, 3), np.uint8)
    image[20:40, 30:80] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    values, placed = letterbox.letterbox(tmp_path / "a.png", 200)
    assert (values.shape, values.dtype) == ((3, 200, 200), np.float32)
    assert values[:, 0, 0] == pytest.approx(114 / 255)
    rows, columns = np.nonzero(values[0] > 0.9)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
    # bilinear scaling blurs an edge by a pixel of the square, half a pixel of the image
    assert placed.original(box)[0] == pytest.approx([30, 20, 80, 40], abs=1)


def test_yolo_labels_become_coco_annotations(yolo, tmp_path):
    from PIL import Image

    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("2 0.5 0.5 0.2 0.4\n")
    Image.new("RGB", (10, 10)).save(tmp_path / "b.png")
    found = yolo("annotations").from_labels(tmp_path, 3)
    assert [(i["file_name"], i["width"], i["height"]) for i in found["images"]] == [
        ("a.png", 100, 50),
        ("b.png", 10, 10),
    ]
    (one,) = found["annotations"]
    assert (one["image_id"], one["category_id"]) == (1, 2)
    assert one["bbox"] == pytest.approx([40, 15, 20, 20])


def test_an_engine_without_a_gpu_says_so(yolo):
    from onnxq.trt.backend import has_gpu

    if has_gpu():
        pytest.skip("there is a GPU here")
    said = yolo("latency").through_engine(Path("no.engine"), np.zeros(1), 1)
    assert "no GPU here" in said or "no TensorRT can be imported" in said


@pytest.mark.parametrize("readme", READMES, ids=lambda p: p.parent.name)
def test_what_a_readme_names_is_there(readme):
    text = readme.read_text("utf-8")
    scripts = re.findall(r"\b(examples/[\w/]+\.(?:py|txt))", text)
    assert scripts or readme.parent.name == "ci"  # a workflow, no script
    assert all((ROOT / path).is_file() for path in scripts)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert all((readme.parent / link).exists() for link in links)


@pytest.mark.parametrize("readme", READMES, ids=lambda p: p.parent.name)
def test_the_options_in_a_readme_exist(readme, run):
    """Commands on models of one's own cannot run here; their options can be looked up."""
    import click
    from onnxq_cli.main import cli

    lines = re.sub(r"\\\n\s*", " ", readme.read_text("utf-8")).splitlines()
    for words in (line.split() for line in lines if re.match(r"\s*onnxq \w", line)):
        command = cli.get_command(click.Context(cli), words[1])
        known = {name for option in command.params for name in option.opts}
        assert {word for word in words if word.startswith("-")} <= known, words
