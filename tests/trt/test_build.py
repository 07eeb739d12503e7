"""Building: what is refused, what crashes, and what the user is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import pytest

from onnxq import api
from onnxq.errors import ModelError, OnnxqError
from onnxq.trt.backend import find_backend
from onnxq.trt.build import BuildOptions, BuildResult, Problem, build
from onnxq.trt.engine import load_engine

pytestmark = pytest.mark.usefixtures("tensorrt_rtx")

T = TypeVar("T")
RTX = BuildOptions("tensorrt-rtx", arch="sm89")


def model(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {body}'), path)
    return path


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    return model(tmp_path, "(float[1,8] x) => (float[1,8] y) { y = Relu(x) }")


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    return model(tmp_path, "(float[N,8] x) => (float[N,8] y) { y = Relu(x) }")


def test_an_engine_is_written_and_progress_is_reported(relu: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    result = build(
        relu, tmp_path / "e.engine", options=RTX, progress=lambda *step: seen.append(step)
    )
    assert result.ok
    assert result.engine == tmp_path / "e.engine"
    assert result.size == result.engine.stat().st_size
    assert result.log == ()
    assert load_engine(result.engine).readable
    assert seen[-1][1] == seen[-1][2]


def test_nothing_but_the_engine_is_left_behind(relu: Path, tmp_path: Path) -> None:
    build(relu, tmp_path / "e.engine", options=RTX)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.engine", "m.onnx"]


def test_a_refused_model_names_the_node_and_leaves_no_file(tmp_path: Path) -> None:
    path = model(
        tmp_path,
        """(float[1,8] x) => (float[1,8] y)
        <float s = {0.1}, int8 z = {5}>
        { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""",
    )
    proto = onnx.load(path)
    proto.graph.node[0].name = "input_q"
    onnx.save(proto, path)
    result = build(path, tmp_path / "e.engine", options=RTX)
    assert not result.ok
    assert (result.problems[0].node, result.problems[0].op) == ("input_q", "QuantizeLinear")
    assert "zero point" in result.problems[0].message
    assert str(result.problems[0]).startswith("QuantizeLinear 'input_q': ")
    assert not (tmp_path / "e.engine").exists()


def test_an_older_engine_survives_a_failed_build(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[1,8] x) => (float[1,8] y) { y = Nothing(x) }")
    (tmp_path / "e.engine").write_bytes(b"old")
    assert not build(path, tmp_path / "e.engine", options=RTX).ok
    assert (tmp_path / "e.engine").read_bytes() == b"old"


def test_a_crash_of_tensorrt_is_a_result(tmp_path: Path) -> None:
    path = model(
        tmp_path,
        """(float[1,32,8,8] x, float s) => (float[1,32,8,8] y)
        <int8 z = {0}, float t = {0.1}>
        {
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            v = DequantizeLinear(w, t, z)
            y = Conv(d, v)
        }""",
    )
    proto = onnx.load(path)
    weight = np.ones((32, 32, 1, 1), np.int8)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, path)
    result = build(path, tmp_path / "e.engine", options=RTX)
    assert not result.ok
    assert "TensorRT crashed (signal 11, SIGSEGV)" in result.problems[0].message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx"]


def test_a_dynamic_input_needs_a_shape_and_is_told_how(dynamic: Path, tmp_path: Path) -> None:
    with pytest.raises(OnnxqError, match=r"'x' \(-1, 8\); give --calib DATA .*--shapes name:min"):
        build(dynamic, tmp_path / "e.engine", options=RTX)


def test_a_dynamic_model_that_was_quantized_is_built_with_the_shapes_of_the_data(
    tmp_path: Path,
) -> None:
    path = model(tmp_path, "(float[N,L,16] x) => (float[N,L,16] y) { y = MatMul(x, w) }")
    proto = onnx.load(path)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(16, dtype="f4"), "w"))
    onnx.save(proto, path)
    rng = np.random.default_rng(0)
    for i, length in enumerate((2, 3, 3)):
        np.save(tmp_path / f"{i}.npy", rng.normal(size=(1, length, 16)).astype("f4"))
    quantized = tmp_path / "q.onnx"
    api.write(api.quantize(path, [str(tmp_path / f"{i}.npy") for i in range(3)]), quantized)
    engine = tmp_path / "e.engine"
    shapes = ("x:1x2x16:1x3x16:1x3x16",)
    assert build(quantized, engine, options=RTX).shapes == shapes
    quantized.with_name("q.onnx.manifest.json").unlink()  # the model itself remembers
    assert build(quantized, engine, options=RTX).shapes == shapes
    own = replace(RTX, shapes=("x:1x4x16",))
    assert build(quantized, engine, options=own).shapes == ()  # what is said outright goes first


def test_inputs_whose_lengths_belong_together_have_a_profile_that_a_sample_has(
    tmp_path: Path,
) -> None:
    path = model(tmp_path, "(float[N,16] x, float[M,16] y, float s) => (float[K,16] z) "
                 "{ a = MatMul(x, w) b = Mul(a, s) z = Concat<axis=0>(b, y) }")  # fmt: skip
    proto = onnx.load(path)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(16, dtype="f4"), "w"))
    onnx.save(proto, path)
    rng = np.random.default_rng(0)
    feeds = [
        {"x": rng.normal(size=(n, 16)).astype("f4"), "y": rng.normal(size=(m, 16)).astype("f4"),
         "s": np.float32(2)} for n, m in ((2, 6), (4, 4), (4, 4), (6, 2), (5, 3))
    ]  # fmt: skip
    quantized = tmp_path / "q.onnx"
    api.quantize(path, feeds).save(quantized)
    found = build(quantized, tmp_path / "e.engine", options=RTX)
    assert found.shapes == ("x:2x16:4x16:6x16", "y:2x16:4x16:6x16")


@pytest.mark.parametrize("shapes", ["x:2x8", "x:1x8:2x8:4x8"])
def test_a_dynamic_input_builds_with_its_shapes(shapes: str, dynamic: Path, tmp_path: Path) -> None:
    options = BuildOptions("tensorrt-rtx", arch="sm89", shapes=(shapes,))
    assert build(dynamic, tmp_path / "e.engine", options=options).ok


@pytest.mark.parametrize(
    ("shapes", "message"),
    [("z:1x8", "no input 'z'.*'x'"), ("x:1x9", r"\(1, 9\) does not fit.*'x' \(-1, 8\)"),
     ("x:1x8x1", "does not fit")],
)  # fmt: skip
def test_a_shape_that_does_not_fit_is_an_error(
    shapes: str, message: str, dynamic: Path, tmp_path: Path
) -> None:
    options = BuildOptions("tensorrt-rtx", arch="sm89", shapes=(shapes,))
    with pytest.raises(OnnxqError, match=message):
        build(dynamic, tmp_path / "e.engine", options=options)


def test_a_build_that_takes_too_long_is_ended(relu: Path, tmp_path: Path) -> None:
    options = BuildOptions("tensorrt-rtx", arch="sm89", timeout=0.01)
    result = build(relu, tmp_path / "e.engine", options=options)
    assert "not built within 0.01 s" in result.problems[0].message


def test_a_truncated_model_is_refused_not_raised(relu: Path, tmp_path: Path) -> None:
    relu.write_bytes(relu.read_bytes()[:-9])
    result = build(relu, tmp_path / "e.engine", options=RTX)
    assert isinstance(result, BuildResult)
    assert result.problems


def test_a_missing_model_and_a_missing_folder_are_named(relu: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model at '.*nowhere\.onnx'"):
        build(tmp_path / "nowhere.onnx", tmp_path / "e.engine", options=RTX)
    with pytest.raises(OnnxqError, match="no folder"):
        build(relu, tmp_path / "none" / "e.engine", options=RTX)


def test_wrong_options_are_named_with_the_valid_ones(relu: Path, tmp_path: Path) -> None:
    with pytest.raises(OnnxqError, match="unknown backend 'trt'; choose one of tensorrt, "):
        find_backend("trt")
    with pytest.raises(OnnxqError, match=r"unknown architecture '8\.9'; write it as sm89"):
        build(relu, tmp_path / "e", options=BuildOptions("tensorrt-rtx", arch="8.9"))
    result = build(relu, tmp_path / "e", options=BuildOptions("tensorrt-rtx", arch="sm99"))
    assert "SM99" in result.problems[0].message


def test_a_problem_without_a_node_is_its_message() -> None:
    assert str(Problem("no memory")) == "no memory"


WIDE = "(float[1,64,32,32] x) => (float[1,64,32,32] y) { y = Conv<pads=[1,1,1,1]>(x, w) }"
BUILDS = """
import sys
from onnxq_cli.main import main
main(["build", *sys.argv[1:], "--backend", "tensorrt-rtx", "--arch", "sm89"])
"""


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A model whose engine takes a second or two, and whose weights are beside it."""
    path = model(tmp_path, WIDE)
    proto = onnx.load(path)
    w = np.random.default_rng(0).standard_normal((64, 64, 3, 3), np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(proto, path, save_as_external_data=True, location="w.bin")
    return path


def test_weights_from_elsewhere_are_not_built_in(wide: Path, tmp_path: Path) -> None:
    (tmp_path / "w.bin").rename(tmp_path / "other.bin")
    (tmp_path / "w.bin").symlink_to("other.bin")
    with pytest.raises(ModelError, match=r"'w\.bin' is a link"):
        build(wide, tmp_path / "e.engine", options=RTX)


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_full_disk_is_no_refusal_by_tensorrt(wide: Path, tmp_path: Path) -> None:
    def limit() -> None:  # a write past it fails as on a full disk, with EFBIG for ENOSPC
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    import resource

    command = [sys.executable, "-c", BUILDS, str(wide), "-o", str(tmp_path / "e.engine")]
    ran = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.strip().endswith(f"cannot use '{tmp_path / 'e.engine'}': File too large")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "w.bin"]


@pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc")
@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGKILL"])
def test_a_build_that_is_ended_leaves_no_file_and_no_process(
    name: str, wide: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", BUILDS, str(wide), "-o", str(tmp_path / "e.engine")]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    child = within(20, lambda: next(iter(children.read_text().split()), ""))
    assert child
    parent.send_signal(getattr(signal, name))
    parent.wait()
    assert within(20, lambda: not Path(f"/proc/{child}").exists())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "w.bin"]


def within(seconds: float, holds: Callable[[], T]) -> T:
    """What `holds` returns once that is true, or at the end of the time."""
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return found
