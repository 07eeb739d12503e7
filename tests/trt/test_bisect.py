"""Finding the fewest Q/DQ whose removal lets a model build, and what the build then says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxq_cli.main import run

from onnxq import api
from onnxq.model.graph import load, save
from onnxq.trt.bisect import bisect, minimal
from onnxq.trt.build import BuildOptions
from onnxq.trt.engine import Engine
from onnxq.trt.verdict import judge, meant

FIXTURES = Path(__file__).parents[2] / "fixtures"


@given(st.sets(st.integers(0, 30), max_size=5))
def test_the_minimal_set_is_the_culprits(culprits: set[int]) -> None:
    def holds(removed: Sequence[int]) -> bool:
        return culprits <= set(removed)

    found = minimal(list(range(31)), holds)
    assert set(found) >= culprits
    # nothing can be left out of the answer; without a culprit one item is all that is left
    assert len(found) == max(len(culprits), 1)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("q") / "centerpoint.int8.onnx"
    folder = FIXTURES / "centerpoint"
    result = api.quantize(folder / "backbone_neck_head.onnx", [str(folder / "calib.npy")])
    api.write(result, out)
    return out


def _spoil(path: Path, out: Path, index: int) -> str:
    """Give one activation's pair a zero point, which TensorRT refuses; the DQ's name."""
    graph = load(path)
    pairs = [n for n in graph.nodes if n.op == "QuantizeLinear"]
    quantize = pairs[index]
    quantize.inputs[2].values = np.array(3, np.int8)
    save(graph, out)
    return quantize.outputs[0].outputs[0].name


def test_the_planted_pair_is_found(quantized: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    name = _spoil(quantized, tmp_path / "bad.onnx", 2)
    assert bisect(load(tmp_path / "bad.onnx"), BuildOptions()) == [name]


def test_build_says_what_runs_in_int8(
    quantized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert run(["build", str(quantized), "-o", str(tmp_path / "e.engine"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    verdict = found["verdict"]
    assert verdict["covered"] == verdict["meant"] > 15
    assert (tmp_path / "e.engine").stat().st_size == found["build"]["bytes"]


def test_a_refused_model_is_explained_and_leaves_no_engine(
    quantized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx")
    _spoil(quantized, tmp_path / "bad.onnx", 2)
    engine = tmp_path / "e.engine"
    assert run(["build", str(tmp_path / "bad.onnx"), "-o", str(engine)]) == 1
    out = capsys.readouterr().out
    assert "REFUSED" in out
    assert "zero-point" in out
    assert not engine.exists()


def test_an_engine_that_cannot_be_read_gives_unknown(quantized: Path) -> None:
    verdict = judge(load(quantized), Engine(reason="no listing"))
    assert set(verdict.real.values()) == {"unknown"}
    assert not verdict.missed
    assert verdict.covered == 0


def test_a_float_model_means_nothing_in_int8() -> None:
    assert meant(load(FIXTURES / "classifier" / "classifier.onnx")) == {}


def test_dynamic_inputs_take_their_profile_from_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder = FIXTURES / "classifier"
    engine = str(tmp_path / "e.engine")
    assert run(["build", str(folder / "classifier.onnx"), "-o", engine]) == 2
    assert "give --calib DATA" in capsys.readouterr().err
    calib = str(folder / "calib.npy")
    assert run(["build", str(folder / "classifier.onnx"), "-o", engine, "--calib", calib]) == 0


def test_a_broken_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    assert run(["build", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "e.engine")]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    assert onnx.__name__ in err.lower()
