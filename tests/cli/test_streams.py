"""stdout holds results alone, in any encoding, open or closed; names do nothing to a terminal."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "cli")])}
ESCAPE, FORMULA, INPUT = "\x1b]0;owned\x07\x1b[2Jc0", "=cmd|' /C calc'!A0\n*", "x;touch owned;"


def shell(line, **env):
    return subprocess.run(["bash", "-c", line.replace("onnxq", f"{sys.executable} -m onnxq_cli")],
                          env={**ENV, **env}, capture_output=True, timeout=60)  # fmt: skip


def tensor(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def save(path, names=("c0", "c1"), inp="x", outputs=()):
    """Two Conv in a row, of 16 channels."""
    rng = np.random.default_rng(0)
    w = [(rng.standard_normal((16, 16, 3, 3)) / 12).astype(np.float32) for _ in range(2)]
    nodes = [
        helper.make_node("Conv", [inp, "w0"], ["a"], names[0], pads=[1] * 4),
        helper.make_node("Conv", ["a", "w1"], ["y"], names[1], pads=[1] * 4),
    ]
    ends = [tensor(n, ["n", 16, 8, 8]) for n in (inp, "y")]
    more = [tensor(n, [16, 16, 3, 3]) for n in outputs]
    weights = [numpy_helper.from_array(x, f"w{i}") for i, x in enumerate(w)]
    graph = helper.make_graph(nodes, "g", ends[:1], [*ends[1:], *more], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    np.savez(f"{path}.npz", **{inp: rng.standard_normal((10, 16, 8, 8)).astype(np.float32)})
    return path, f"{path}.npz"


@pytest.fixture
def hostile(folder):
    return save("m.onnx", (ESCAPE, FORMULA), INPUT)


def test_names_do_nothing_to_a_terminal(hostile, onnxq):
    model, data = hostile
    said = [
        onnxq("inspect", model),
        onnxq("inspect", model, ESCAPE),
        onnxq("inspect", model, "no such node"),
        onnxq("plan", model, "-o", "plan.yaml"),
        onnxq("plan", model, "-o", "plan.yaml", "--json"),
        onnxq("quantize", model, "--calib", data, "-o", "q.onnx", "-vv"),
        onnxq("diff", model, "q.onnx"),
        onnxq("lint", "q.onnx"),
        onnxq("sensitivity", model, "--calib", data, "-o", "r.md", "--json"),
    ]
    for ran in said:
        text = ran.out + ran.err
        assert all(map(str.isprintable, text.split("\n"))), text
    text = Path("plan.yaml").read_text() + Path("r.md").read_text()
    assert all(map(str.isprintable, text.split("\n")))


def test_a_skip_list_of_such_names_leaves_just_these_nodes_float(hostile, done):
    model, data = hostile
    done("sensitivity", model, "--calib", data, "--top", 1, "--write-skip", "skip.txt",
         "-o", "r.csv", "-o", "r.json")  # fmt: skip
    (worst, other) = json.loads(Path("r.json").read_text())["rows"]
    with open("r.csv", newline="") as file:
        cells = [row["node"] for row in csv.DictReader(file)]
    assert {c.removeprefix("'") for c in cells} == {ESCAPE, FORMULA}
    assert not any(c.startswith("=") for c in cells)
    ran = done("plan", model, "--skip", "@skip.txt", "--json", "-o", "plan.yaml")
    assert sum(json.loads(ran.out)["quantized"].values()) == 1
    found = done(
        "quantize", model, "--calib", data, "--plan", "plan.yaml", "-o", "q.onnx", "--json"
    )
    manifest = json.loads(found.out)
    assert list(manifest["quantized_nodes"]) == [other["name"]] != [worst["name"]]


def test_names_beyond_the_encoding_of_a_terminal_are_escaped(folder):
    model, _ = save("m.onnx", ("層→1", "c1"))
    ran = shell(f"onnxq inspect {model} 層→2; onnxq inspect {model}", PYTHONIOENCODING="ascii")
    assert b"\\u5c64\\u21921" in ran.stdout
    assert ran.stderr.startswith(b"onnxq: pattern '\\u5c64\\u21922' matches no node")
    as_json = shell(f"onnxq inspect {model} --json", PYTHONIOENCODING="latin-1")
    assert json.loads(as_json.stdout.decode("latin-1"))["nodes"][0]["name"] == "層→1"


def test_a_file_name_that_is_not_utf8_is_read_and_written(folder):
    model, data = save("m.onnx")
    odd = os.fsdecode(b"m\xff.onnx")
    Path(model).rename(odd)
    ran = shell(f"onnxq quantize $'m\\xff.onnx' --repeat --calib {data}; "
                "onnxq lint $'m\\xff.int8.onnx' --sarif lint.sarif")  # fmt: skip
    assert ran.stderr == b""
    assert b"--model $'m\\xff.onnx'" in ran.stdout
    assert Path(os.fsdecode(b"m\xff.int8.onnx.manifest.json")).is_file()
    (result, *_) = json.loads(Path("lint.sarif").read_text())["runs"][0]["results"] or [None]
    where = result and result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert where in (None, "m%FF.int8.onnx")


def test_a_closed_stdout_takes_the_results_and_the_files_are_whole(folder):
    model, data = save("m.onnx")
    ran = shell(f"onnxq quantize {model} --calib {data} -o q.onnx --json >&-")
    assert (ran.returncode, ran.stderr) == (0, b"")
    onnxruntime.InferenceSession("q.onnx", providers=["CPUExecutionProvider"])
    json.loads(Path("q.onnx.manifest.json").read_text())


def test_a_closed_stderr_is_no_error(folder):
    model, _ = save("m.onnx")
    ran = shell(f"onnxq plan {model} -o plan.yaml 2>&-; onnxq plan none.onnx -o p.yaml 2>&-")
    assert ran.returncode == 2
    assert b"written: plan.yaml" in ran.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_results_that_cannot_be_written_are_told(folder):
    model, _ = save("m.onnx")
    ran = shell(f"onnxq inspect {model} >/dev/full")
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"onnxq: the disk is full")


def test_json_alone_is_on_stdout_where_libraries_warn(folder, done):
    # the weight is an output too: onnx-graphsurgeon prints a warning for each look at such tensors
    model, data = save("m.onnx", outputs=["w0"])
    ran = done("quantize", model, "--calib", data, "--recover", "all", "--json", "-o", "q.onnx")
    assert json.loads(ran.out)["output"]["path"] == "q.onnx"


def test_exact_outputs_are_strict_json_everywhere(folder, done):
    def strict(text):
        return json.loads(text, parse_constant=pytest.fail)

    model, data = save("m.onnx")
    zero = onnx.load(model)
    zero.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.zeros((16, 16, 3, 3), np.float32), "w1")
    )
    onnx.save(zero, model)
    said = [
        done("quantize", model, "--calib", data, "-o", "q.onnx", "--json").out,
        done("compare", model, model, "--calib", data, "--per-tensor", "--json").out,
        done("diff", "q.onnx", "q.onnx", "--calib", data, "--json").out,
        done("sensitivity", model, "--calib", data, "--resume", "state.json", "--json").out,
        Path("q.onnx.manifest.json").read_text(),
        Path("state.json").read_text(),
    ]
    assert '"inf"' in "".join(map(json.dumps, map(strict, said)))
    Path("c.json").write_text(said[1])
    done("report", "q.onnx", "--comparison", "c.json", "-o", "r.html")
    done("sensitivity", model, "--calib", data, "--resume", "state.json")


def test_what_nobody_foresaw_is_one_line_with_its_place(folder, onnxq, monkeypatch):
    def fail(*_):
        return 1 // 0

    monkeypatch.setattr("onnxq_cli.doctor_command._checks", fail)
    ran = onnxq("doctor")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)
    assert ran.err.startswith("onnxq: internal error: ZeroDivisionError: integer division")
    assert " in onnxq_cli/doctor_command.py:" in ran.err
    assert "-vv" in ran.err
    loud = onnxq("doctor", "-vv")
    assert loud.err.startswith("Traceback")
    assert loud.err.splitlines()[-1] == ran.err.strip()


def test_too_deep_a_recursion_is_such_a_line_too(folder, onnxq, monkeypatch):
    def fail(*_):
        return fail()

    monkeypatch.setattr("onnxq_cli.doctor_command._checks", fail)
    ran = onnxq("doctor")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert "internal error: RecursionError" in ran.err
