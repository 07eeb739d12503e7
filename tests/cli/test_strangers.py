"""Files that somebody else made: they run no code, write no files, and do not take all memory."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.numpy_helper import from_array

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "classifier"
MODEL, DATA = FIXTURE / "classifier.onnx", FIXTURE / "calib.npy"
EVIL = "open('ran', 'w').close()"


def names():
    """The files of the current folder."""
    return sorted(path.name for path in Path().iterdir())


@pytest.fixture
def refused(onnxq, folder):
    """`refused("plan", ...)`: the one line that a command says, with exit code 2."""

    def call(*args):
        ran = onnxq(*args)
        assert ran.code == 2, ran.out + ran.err
        (line,) = ran.err.strip().splitlines()
        assert not Path("ran").exists()
        return line

    return call


@pytest.mark.parametrize(
    ("command", "settings", "typed"),
    [
        ("quantize", {"ort_extension": "evil.py"}, "--ort-extension evil.py"),
        ("quantize", {"ort_library": "evil.so"}, "--ort-library evil.so"),
        ("quantize", {"calib": ["evil:data"]}, "--calib evil:data"),
        ("sensitivity", {"metric": "evil:score"}, "--metric evil:score"),
        ("quantize", {"save_plan": "my plan.txt"}, "--save-plan 'my plan.txt'"),
        ("quantize", {"cache": "kept"}, "--cache kept"),
        ("plan", {"out": "plan.txt"}, "-o plan.txt"),
    ],
)
@pytest.mark.parametrize("wrap", [False, True])
def test_a_configuration_runs_no_code_and_names_no_file_to_write(
    refused, command, settings, typed, wrap
):
    Path("evil.py").write_text(EVIL)
    document = {"kind": "onnxq.manifest", "config": settings} if wrap else settings
    Path("run.json").write_text(json.dumps(document))
    given = () if "calib" in settings or command == "plan" else ("--calib", DATA)
    message = refused(command, MODEL, *given, "--config", "run.json")
    assert f"'run.json' sets '{next(iter(settings))}'" in message
    assert f"write {typed} on the command line" in message
    assert names() == ["evil.py", "run.json"]


def test_what_the_command_line_says_is_done_whatever_the_configuration_says(onnxq, folder):
    Path("run.json").write_text(json.dumps({"out": "theirs.yaml", "method": "max"}))
    assert onnxq("plan", MODEL, "--config", "run.json", "-o", "mine.yaml").code == 0
    assert names() == ["mine.yaml", "run.json"]


def test_a_build_imports_nothing_from_the_current_folder(folder):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX, which builds without a GPU")
    for name in ("re.py", "json.py", "onnxq.py", "tensorrt_rtx.py"):
        Path(name).write_text(f"{EVIL}\nraise ImportError('not yours')")
    main = "from onnxq_cli.main import main; main()"
    paths = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-P", "-c", main, "build", str(MODEL), "-o", "m.engine",
         "--shapes", "image:1x1x16x16"],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not Path("ran").exists()


def test_two_equal_runs_write_the_same_bytes(onnxq, folder):
    written = []
    for _ in range(2):
        assert onnxq("quantize", MODEL, "--calib", DATA, "-o", "q.onnx").code == 0
        written.append(Path("q.onnx").read_bytes())
    assert written[0] == written[1]


def saved(nodes, functions=(), constants=()):
    """m.onnx: `nodes` make `a` of the input `x`, which a Conv reads."""
    weight = from_array(np.ones((16, 16, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [*nodes, helper.make_node("Conv", ["a", "w"], ["y"], "conv")],
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 16, 8, 8])],
        [helper.make_tensor_value_info("y", 1, None)],
        [weight, *constants],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    made.functions.extend(functions)
    onnx.save(made, "m.onnx")


def test_functions_that_double_forty_times_are_refused(refused):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    bodies = [[helper.make_node("Relu", ["a"], ["b"])]]
    for i in range(40):
        bodies.append([
            helper.make_node(f"F{i}", ["a"], ["t"], domain="my"),
            helper.make_node(f"F{i}", ["t"], ["b"], domain="my"),
        ])  # fmt: skip
    functions = [
        helper.make_function("my", f"F{i}", ["a"], ["b"], body, opsets)
        for i, body in enumerate(bodies)
    ]
    saved([helper.make_node("F40", ["x"], ["a"], "f", domain="my")], functions)
    assert "functions unfold to over" in refused("lint", "m.onnx")


def test_constants_that_double_forty_times_are_refused(refused):
    nodes, tensor = [], "one"
    for i in range(40):
        nodes.append(helper.make_node("Concat", [tensor, tensor], [f"d{i}"], f"d{i}", axis=0))
        tensor = f"d{i}"
    nodes += [helper.make_node("ReduceMax", [tensor], ["r"], "max", keepdims=0),
              helper.make_node("Add", ["x", "r"], ["a"], "add")]  # fmt: skip
    saved(nodes, constants=[from_array(np.ones(1, np.float32), "one")])
    assert "GB of constants" in refused("prepare", "m.onnx", "-o", "p.onnx")


def test_yaml_whose_aliases_unfold_without_end_is_refused(refused):
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]"
              for a, b in zip("abcdefgh", "bcdefghi", strict=True)]  # fmt: skip
    Path("run.yaml").write_text("\n".join([*lines, "config: {skip: *i}"]))
    message = refused("plan", MODEL, "-o", "p.yaml", "--config", "run.yaml")
    assert "aliases unfold to more than" in message


def test_an_archive_whose_member_is_larger_than_its_array_is_refused(refused):
    text = str({"descr": "<f4", "fortran_order": False, "shape": (4, 3, 32, 32)})
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    with zipfile.ZipFile("b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", header + bytes(8 << 20))
    message = refused("calibrate", MODEL, "--calib", "b.npz", "-o", "r.json")
    assert "bytes where its array takes 49280" in message


def test_statistics_that_unpack_to_far_more_than_they_are_are_refused(refused):
    np.savez_compressed("s.npz", header=np.zeros(80 << 20, np.uint8))
    message = refused("calibrate", MODEL, "--stats", "s.npz", "-o", "r.json")
    assert "unpacks to 80 MB" in message
