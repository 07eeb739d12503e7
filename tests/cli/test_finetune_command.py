"""`onnxq finetune`: from a file to a model, and one line for what it cannot do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def with_torch():
    pytest.importorskip("torch", reason='pip install "onnxq[finetune]"')


@pytest.fixture
def network(folder):
    """A small network in `m.onnx`, and samples in `x.npy`."""
    rng = np.random.default_rng(0)
    weights = {"w0": (16, 3, 3, 3), "w1": (16, 16, 3, 3), "w2": (4, 16)}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "c0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "r0"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "c1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], "r1"),
        helper.make_node("GlobalAveragePool", ["d"], ["p"], "p"),
        helper.make_node("Flatten", ["p"], ["f"], "f"),
        helper.make_node("Gemm", ["f", "w2"], ["y"], "fc", transB=1),
    ]

    def write(extra=()):
        graph = helper.make_graph(
            [*nodes, *extra], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
            [helper.make_tensor_value_info(extra[-1].output[0] if extra else "y",
                                           TensorProto.FLOAT, None)],
            [numpy_helper.from_array((rng.normal(size=s) / np.prod(s[1:]) ** 0.5).astype("f4"), n)
             for n, s in weights.items()],
        )  # fmt: skip
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "m.onnx")
        np.save(folder / "x.npy", rng.normal(size=(40, 3, 8, 8)).astype("f4"))
        return "m.onnx", "--calib", "x.npy"

    return write


OPTIONS = ("--scheme", "w4a8", "--min-channels", "1", "--steps", "8", "--workers", "1")


def test_a_model_and_its_manifest_are_written_and_the_state_goes(with_torch, done, folder, network):
    ran = done("finetune", *network(), *OPTIONS, "-o", "out.onnx")
    assert "Blocks, dB on samples that judge" in ran.out
    assert "finetune:" in ran.out
    assert "good" in ran.out or "doubtful" in ran.out or "poor" in ran.out
    said = json.loads((folder / "out.onnx.manifest.json").read_text())
    learned = next(found for found in said["recovered"] if found["algorithm"] == "finetune")
    assert [block["steps"] for block in learned["blocks"]] == [8]
    assert sorted(p.name for p in folder.iterdir()) == [
        "m.onnx", "out.onnx", "out.onnx.manifest.json", "x.npy"]  # fmt: skip
    ops = [node.op_type for node in onnx.load(folder / "out.onnx").graph.node]
    done("quantize", "m.onnx", "--calib", "x.npy", *OPTIONS[:4], "-o", "plain.onnx")
    assert ops == [node.op_type for node in onnx.load(folder / "plain.onnx").graph.node]


def test_an_op_without_a_function_is_one_line_before_anything_runs(with_torch, refused, network):
    odd = helper.make_node("LRN", ["y4"], ["z"], "odd", size=3)
    shape = helper.make_node("Unsqueeze", ["y", "axes"], ["y4"], "up")
    axes = helper.make_node("Constant", [], ["axes"], "k", value_ints=[2, 3])
    said = refused("finetune", *network([axes, shape, odd]), *OPTIONS)
    assert "no function for 'odd' (op LRN)" in said


def test_without_torch_the_extra_is_named(refused, network, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as Python has it where an import is barred
    said = refused("finetune", *network(), *OPTIONS)
    assert 'pip install "onnxq[finetune]"' in said


def test_steps_and_epochs_together_are_refused(with_torch, refused, network):
    said = refused("finetune", *network(), *OPTIONS, "--epochs", "2")
    assert "--steps and --epochs" in said


def test_a_process_that_is_killed_goes_on_to_the_same_bits(with_torch, done, folder, fixtures):
    model, data = fixtures / "classifier" / "classifier.onnx", fixtures / "classifier" / "calib.npy"
    words = ["finetune", str(model), "--calib", str(data), "--scheme", "w4a8", "--steps", "4",
             "--recover", "none", "--no-polish", "--workers", "1", "--samples", "24",
             "--check-samples", "2"]  # fmt: skip
    code = "import sys; from onnxq_cli.main import main; sys.exit(main())"
    state = folder / "killed.onnx.finetune.npz"
    ran = subprocess.Popen([sys.executable, "-c", code, *words, "-o", "killed.onnx"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    while not state.exists() and ran.poll() is None:
        time.sleep(0.01)
    ran.kill()
    assert ran.wait() == -signal.SIGKILL
    assert not (folder / "killed.onnx").exists()
    done(*words, "-o", "killed.onnx")
    done(*words, "-o", "whole.onnx")
    assert not state.exists()
    said = json.loads((folder / "killed.onnx.manifest.json").read_text())
    assert any("went on behind" in note for r in said["recovered"] for note in r["notes"])
    killed, whole = (onnx.load(folder / f"{name}.onnx").graph for name in ("killed", "whole"))
    assert killed == whole
