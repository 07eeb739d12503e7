"""Polygraphy's own command line takes what onnxq writes, and onnxq what Polygraphy writes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnxq_cli.main import run

from onnxq import api
from onnxq.pipeline.config import Config

FIXTURE = Path(__file__).parents[2] / "fixtures" / "centerpoint"
MODEL, CALIB = FIXTURE / "backbone_neck_head.onnx", FIXTURE / "calib.npy"


def polygraphy(folder: Path, *words: str, rtx: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `polygraphy` in `folder`."""
    environment = os.environ | ({"POLYGRAPHY_USE_TENSORRT_RTX": "1"} if rtx else {})
    code = "import sys; from polygraphy.tools import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("polygraphy")
    result = api.quantize(MODEL, [str(CALIB)], Config(check_samples=1))
    api.write(result, made / "model.int8.onnx")
    return made


def test_convert_builds_an_engine(folder: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    done = polygraphy(
        folder, "convert", "model.int8.onnx", "--convert-to", "trt", "-o", "m.engine", rtx=True
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "m.engine").stat().st_size > 100_000


def test_inspect_capability_finds_everything_supported(folder: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    done = polygraphy(folder, "inspect", "capability", "model.int8.onnx", rtx=True)
    assert "fully supported" in done.stdout, done.stdout + done.stderr


def test_check_lint_passes(folder: Path) -> None:
    done = polygraphy(folder, "check", "lint", "model.int8.onnx")
    assert done.returncode == 0, done.stdout
    assert "PASSED" in done.stdout


def test_data_loader_script_feeds_polygraphy(folder: Path) -> None:
    script = folder / "loader.py"
    assert run(["data", "--model", str(MODEL), "--calib", str(CALIB), "-o", str(script)]) == 0
    done = polygraphy(
        folder, "run", "model.int8.onnx", "--onnxrt", "--data-loader-script", "loader.py",
        "--save-inputs", "seen.json", "--save-outputs", "out.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "out.json").stat().st_size > 0
    source = api.open_model(MODEL)
    ours, theirs = api.data(source, [str(CALIB)]), api.data(source, [str(folder / "seen.json")])
    assert ours.digest() == theirs.digest()


def test_inputs_written_as_json_read_back_the_same(folder: Path) -> None:
    out = folder / "inputs.json"
    assert run(["data", "--model", str(MODEL), "--calib", str(CALIB), "-o", str(out)]) == 0
    back = api.data(api.open_model(MODEL), [str(out)])
    name = "spatial_features"
    stored = np.load(CALIB)
    assert len(back) == len(stored)
    np.testing.assert_array_equal(back.sample(3)[name][0], stored[3])


def test_outputs_far_from_the_float_model_fail(folder: Path) -> None:
    common = ("--onnxrt", "--load-inputs", "inputs.json")
    test_inputs_written_as_json_read_back_the_same(folder)
    saved = polygraphy(folder, "run", str(MODEL), *common, "--save-outputs", "float.json")
    assert saved.returncode == 0, saved.stderr
    judge = ("run", "model.int8.onnx", *common, "--load-outputs", "float.json",
             "--check-error-stat", "mean", "--rtol", "0", "--atol")  # fmt: skip
    assert polygraphy(folder, *judge, "0.1").returncode == 0
    assert polygraphy(folder, *judge, "0.000001").returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--high-precision", "fp16"],
        ["--scheme", "w8a16"],
        ["--scheme", "w4a16"],
        ["--scheme", "fp8"],
        ["--target", "onnxruntime"],
    ],
    ids=" ".join,
)
def test_the_lines_that_repeat_a_comparison_pass(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    command = ["quantize", str(MODEL), "--calib", str(CALIB), "--check-samples", "1", *words]
    assert run([*command, "-o", str(out), "-q"]) == 0
    lines = json.loads(Path(f"{out}.manifest.json").read_text())["repeat"]
    ours, *theirs = (shlex.split(line) for line in lines)
    assert run([*ours[1:-1], str(tmp_path / ours[-1])]) == 0
    for line in theirs:
        done = polygraphy(tmp_path, *line[1:])
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
