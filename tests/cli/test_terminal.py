"""What goes where: tables that fit and pipe, JSON, progress, -v and -q, completion."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "cli")])}
NODE = "/layer1/layer1.0/conv1/Conv"
LONG = "/encoder/layer.1/intermediate/intermediate_act_fn/" + "a_long_part_" * 4 + "/Conv"
TO_COPY = ("onnxq data ", "polygraphy run ", "now: onnxq ")  # commands keep to one line
TABLES = {  # command -> what it is run with, on the classifier
    "quantize": "{model} --calib {data} --recover none -o q.onnx",
    "quantize with bias": "{model} --calib {data} -o q.onnx",
    "quantize to a plan": "{model} --calib {data} --dry-run",
    "prepare": "{model} -o p.onnx",
    "plan": "{model} -o plan.yaml",
    "calibrate": "{model} --calib {data} -o ranges.json",
    "sensitivity": "{model} --calib {data} --samples 4",
    "search": "{model} --calib {data} --min-sqnr 20 --points 0 --trials 2 -o s.yaml",
    "recipe": "{model} --calib {data} --worst 0,1 -o folder",
    "compare": "{model} int8.onnx --calib {data} --per-tensor",
    "inspect": "int8.onnx --all",
    "inspect a node": "int8.onnx /layer1/layer1.0/conv1/Conv",
    "inspect nodes": "int8.onnx Conv",
    "diff": "int8.onnx max.onnx",
    "lint": "int8.onnx",
    "doctor": "",
}
WITHOUT_JSON = {"quantize with bias", "inspect a node", "inspect nodes"}  # the same commands again


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """The classifier in INT8 twice, with other ranges."""
    from onnxq_cli.main import run

    folder = tmp_path_factory.mktemp("quantized")
    fixture = ROOT / "fixtures" / "classifier"
    for name, method in (("int8.onnx", "mse"), ("max.onnx", "max")):
        words = ["quantize", fixture / "classifier.onnx", "--calib", fixture / "calib.npy",
                 "--recover", "none", "--method", method, "-o", folder / name]  # fmt: skip
        assert run([str(w) for w in words]) == 0
    return folder


@pytest.fixture
def printed(onnxq, quantized, folder, classifier, images):
    """`printed("plan", "--json")`: what a command of TABLES prints."""
    for file in quantized.iterdir():
        shutil.copy(file, folder)

    def call(what, *more):
        words = TABLES[what].format(model=classifier, data=images).split()
        ran = onnxq(what.split()[0], *words, *more)
        assert ran.code in (0, 1), ran.err
        return ran

    return call


@pytest.mark.parametrize("what", TABLES)
def test_a_table_fits_80_columns_and_has_no_codes_of_a_terminal(what, printed):
    ran = printed(what)
    lines = [line for line in ran.out.splitlines() if not line.startswith(TO_COPY)]
    assert lines
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []
    assert "\x1b" not in ran.out + ran.err
    assert "\N{HORIZONTAL ELLIPSIS}" not in ran.out  # rich's mark of what it cut off
    assert [line for line in ran.err.splitlines() if not line.startswith("onnxq: ")] == []


@pytest.mark.parametrize("what", ["calibrate", "sensitivity", "inspect", "compare", "diff"])
def test_in_a_pipe_every_row_is_a_line_with_whole_names(what, printed, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    out = printed(what).out
    folded = [line for line in out.splitlines() if re.match(r"  \S+/?$", line)]
    assert folded == []


@pytest.mark.parametrize("what", [what for what in TABLES if what not in WITHOUT_JSON])
def test_json_is_printed_wherever_a_table_is(what, printed):
    document = json.loads(printed(what, "--json").out)
    assert document


def test_a_long_name_is_found_in_a_pipe(done, conv_model, conv_data, monkeypatch):
    body = (
        "(float[1, 16, 8, 8] x) => (float[1, 16, 6, 6] y) { "
        f"[{LONG.strip('/').replace('/', '_').replace('.', '_')}] y = Conv(x, w) }}"
    )
    model = conv_model(body)
    monkeypatch.delenv("COLUMNS")
    name = LONG.strip("/").replace("/", "_").replace(".", "_")
    assert name in done("sensitivity", model, "--calib", conv_data, "--samples", 2).out
    assert name in done("inspect", model).out


def test_nothing_goes_to_stderr_where_all_is_well(printed):
    assert printed("quantize").err == ""


@pytest.mark.parametrize("words", [("-v", "quantize"), ("quantize", "-v")])
def test_v_says_how_long_each_stage_took_wherever_it_stands(words, done, classifier, images):
    options = ("--calib", images, "--recover", "none", "-o", "q.onnx")
    before = words.index("quantize") + 1
    ran = done(*words[:before], classifier, *options, *words[before:])
    assert re.search(r"onnxq: info: calibrate: (\d+) of \1, \d+\.\d s", ran.err)


def test_q_leaves_out_warnings_and_vv_adds_passes_and_tracebacks(onnxq, classifier, folder):
    np.save("same.npy", np.ones((12, 1, 16, 16), np.float32))
    words = ("quantize", classifier, "--calib", "same.npy", "--recover", "none", "-o", "q.onnx")
    assert "onnxq: warning: " in onnxq(*words).err
    assert "warning" not in onnxq(*words, "-q").err
    assert "onnxq: debug: fold_bn: " in onnxq("plan", classifier, "-o", "p.yaml", "-vv").err
    ran = onnxq("plan", "none.onnx", "-o", "p.yaml", "-vv")
    assert ran.err.startswith("Traceback")
    assert ran.err.splitlines()[-1].startswith("onnxq: no model at 'none.onnx'")


@pytest.mark.skipif(os.name != "posix", reason="uses a pseudo terminal of POSIX")
@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_gets_bars_with_the_time_left_unless_quiet(quiet, classifier, images, folder):
    main, end = os.openpty()
    words = ["quantize", classifier, "--calib", images, "--recover", "none", "-o", "q.onnx"]
    ran = subprocess.Popen(
        [sys.executable, "-m", "onnxq_cli", *map(str, words), *(["-q"] if quiet else [])],
        env={**ENV, "TERM": "xterm", "COLUMNS": "100"}, stdout=subprocess.DEVNULL, stderr=end,
    )  # fmt: skip
    os.close(end)
    shown = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # what Linux says at the end
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert ran.wait(timeout=60) == 0
    assert (shown == b"") == quiet
    assert (b"calibrate" in shown and b"left" in shown) != quiet


def complete(line):
    """What the shell is offered for the last word of a line."""
    words = line.split(" ")
    env = {**ENV, "_ONNXQ_COMPLETE": "bash_complete", "COMP_WORDS": line,
           "COMP_CWORD": str(len(words) - 1)}  # fmt: skip
    code = "from onnxq_cli.main import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True,
                         timeout=60)  # fmt: skip
    assert ran.stderr == ""
    return ran.stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_the_script_of_the_completion_is_bash():
    code = "from onnxq_cli.main import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=60,
                         env={**ENV, "_ONNXQ_COMPLETE": "bash_source"})  # fmt: skip
    assert "complete -o nosort -F _onnxq_completion onnxq" in ran.stdout
    subprocess.run(["bash", "-n"], input=ran.stdout, text=True, check=True, timeout=60)


def test_commands_options_and_choices_are_completed():
    assert complete("onnxq insp") == ["plain,inspect"]
    assert "plain,--skip" in complete("onnxq quantize --sk")
    assert complete("onnxq quantize m.onnx --scheme w4a1") == ["plain,w4a16"]


def test_models_are_completed_as_files(classifier):
    assert complete("onnxq inspect mod") == ["file,mod"]


def test_nodes_of_the_model_on_the_line_are_completed(classifier):
    assert complete(f"onnxq inspect {classifier} {NODE}") == [f"plain,{NODE}"]
    found = complete(f"onnxq quantize {classifier} --skip layer1.0/conv")
    assert f"plain,{NODE}" in found
    assert all("layer1.0/conv" in line for line in found)
    assert "plain,op:Conv" in complete(f"onnxq quantize {classifier} --skip op:C")
    assert complete("onnxq quantize none.onnx --skip a") == [""]
