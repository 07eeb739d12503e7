"""Runs `onnxq` in this process, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxq_cli.main import run

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder of a test, empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def onnxq(capsys) -> Callable[..., Ran]:
    """`onnxq("plan", model, ...)`: exit code, stdout, stderr."""

    def call(*args: object) -> Ran:
        capsys.readouterr()
        words = [str(a) for a in args]
        if words[:1] == ["sensitivity"] and not {"-o", "--out"} & {*words}:
            words += ["-o", "ranking.csv"]  # not beside a fixture
        code = run(words)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return call


@pytest.fixture
def done(onnxq) -> Callable[..., Ran]:
    """The same for a command that must succeed."""

    def call(*args: object) -> Ran:
        ran = onnxq(*args)
        assert ran.code == 0, ran.err
        return ran

    return call


@pytest.fixture
def refused(onnxq, folder) -> Callable[..., str]:
    """The one line with which a command refuses; it exits with 2 and leaves every file alone."""

    def files() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def call(*args: object) -> str:
        before = files()
        ran = onnxq(*args)
        assert (ran.code, ran.out) == (2, ""), ran.err
        assert files() == before
        lines = [line for line in ran.err.splitlines() if "warning:" not in line]
        assert len(lines) == 1, ran.err
        assert lines[0].startswith("onnxq: ")
        return lines[0].removeprefix("onnxq: ")

    return call


@pytest.fixture
def classifier() -> Path:
    return FIXTURES / "classifier" / "classifier.onnx"


@pytest.fixture
def images() -> Path:
    return FIXTURES / "classifier" / "calib.npy"


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture
def conv_model(folder) -> Callable[..., Path]:
    """`conv_model(body, opset=17)`: a model file with `w`, a 3x3 Conv weight of 16 channels."""

    def save(body: str, opset: int = 17, name: str = "model.onnx") -> Path:
        model = onnx.parser.parse_model(
            f'<ir_version: 7, opset_import: ["": {opset}, "my.domain": 1]> g {body}'
        )
        weight = np.random.default_rng(0).normal(size=(16, 16, 3, 3)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
        onnx.save(model, name)
        return Path(name)

    return save


@pytest.fixture
def conv_data(folder) -> Path:
    """Ten samples for an input of 16 x 8 x 8."""
    x = np.random.default_rng(1).normal(size=(10, 16, 8, 8)).astype(np.float32)
    np.save("data.npy", x)
    return Path("data.npy")
