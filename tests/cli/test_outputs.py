"""No output of any command takes the place of an input, of its weights, or of what is no file."""

import os
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from onnxq_cli.main import COMMANDS, cli
from onnxq_cli.paths import OutFile


def leaves(command, words):
    """Every command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), (*words, name))
    else:
        yield words, command


EVERY = dict(leaves(cli, ()))


def is_read(param):
    """Whether a parameter names a file that is read."""
    path = isinstance(param.type, click.Path) and not isinstance(param.type, OutFile)
    return (path and param.type.file_okay and param.name != "folder") or param.name in (
        "calib", "scored", "skip", "only",
    )  # fmt: skip


def given(param, value):
    """The words that give a parameter a value."""
    return [value] if isinstance(param, click.Argument) else [param.opts[-1], value]


def outputs_and_inputs():
    for words, command in EVERY.items():
        outs = [p for p in command.params if isinstance(p.type, OutFile)]
        for out in outs:
            for read in filter(is_read, command.params):
                yield pytest.param(words, out, read, id=f"{' '.join(words)} {out.name} {read.name}")


def test_every_command_is_looked_at():
    assert {words[0] for words in EVERY} == set(COMMANDS)
    assert len(list(outputs_and_inputs())) > 100


@pytest.mark.parametrize(("words", "out", "read"), list(outputs_and_inputs()))
def test_no_output_of_a_command_is_a_file_that_it_reads(words, out, read, onnxq, folder):
    line = list(words)
    for param in EVERY[words].params:
        if param is not out and (param.required or param is read):
            Path(f"{param.name}.file").write_text("method: mse\n")
            at = "@" if param.name in ("skip", "only") else ""
            line += given(param, f"{at}{param.name}.file")
    Path("alias").symlink_to(f"{read.name}.file")
    for name in (f"{read.name}.file", "alias"):
        ran = onnxq(*line, *given(out, name))
        assert ran.code == 2
        assert f"'{name}' is read and would be overwritten; give another output" in ran.err


def beside(source, name, data):
    onnx.save(
        onnx.load(source), name, save_as_external_data=True, location=data, size_threshold=100
    )


WEIGHTS = (
    ("prepare", "m.onnx", "-o"),
    ("quantize", "m.onnx", "--calib", "x.npy", "-o"),
    ("quantize", "m.onnx", "--calib", "x.npy", "-o", "q.onnx", "--save-stats"),
    ("plan", "m.onnx", "-o"),
    ("lint", "m.onnx", "--sarif"),
    ("lint", "m.onnx", "--fix", "-o"),
    ("build", "m.onnx", "-o"),
    ("report", "m.onnx", "-o"),
    ("compare", "m.onnx", "m.onnx", "--calib", "x.npy", "--report"),
    ("search", "m.onnx", "--calib", "x.npy", "--min-sqnr", "30", "-o"),
)


@pytest.mark.parametrize("words", WEIGHTS)
def test_no_output_of_a_command_is_the_weights_of_its_model(words, classifier, onnxq, folder):
    beside(classifier, "m.onnx", "w.bin")
    os.link("w.bin", "other name")
    for name in ("w.bin", "other name"):
        before = Path(name).read_bytes()
        ran = onnxq(*words, name)
        assert (ran.code, Path(name).read_bytes()) == (2, before)
        assert "is read and would be overwritten" in ran.err


def test_weights_beside_the_output_are_no_files_of_the_model_that_is_read(
    classifier, images, onnxq, folder
):
    beside(classifier, "m.onnx", "q.onnx.data")
    before = Path("q.onnx.data").read_bytes()
    ran = onnxq("quantize", "m.onnx", "--calib", images, "-o", "q.onnx", "--external-data")
    assert (ran.code, Path("q.onnx.data").read_bytes()) == (0, before)


def test_a_file_in_a_folder_of_data_is_not_written_over(classifier, onnxq, folder):
    Path("d").mkdir()
    np.savez("d/0.npz", image=np.zeros((1, 3, 32, 32), np.float32))
    before = Path("d/0.npz").read_bytes()
    ran = onnxq("data", "--model", classifier, "--calib", "d", "-o", "d/0.npz")
    assert (ran.code, Path("d/0.npz").read_bytes()) == (2, before)
    assert "'d/0.npz' is read and would be overwritten" in ran.err


def test_two_outputs_are_two_files(classifier, onnxq, folder):
    ran = onnxq("lint", classifier, "--fix", "-o", "out", "--sarif", "out")
    assert ran.code == 2
    assert "'out' would be written twice" in ran.err


@pytest.mark.parametrize(("flag", "form"), [("--badge", ".svg"), ("--markdown", ".md")])
def test_an_output_of_one_form_has_its_suffix(flag, form, classifier, onnxq, folder):
    ran = onnxq("report", classifier, "-o", "r.html", flag, "other.png")
    assert ran.code == 2
    assert f"end its name in {form}" in ran.err
    assert not Path("r.html").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without FIFOs")
@pytest.mark.parametrize("words", [w for w in EVERY if any(isinstance(p.type, OutFile)
                                                           for p in EVERY[w].params)])  # fmt: skip
def test_no_output_of_a_command_takes_the_place_of_a_pipe_or_a_device(words, onnxq, folder):
    os.mkfifo("pipe")
    Path("null").symlink_to(os.devnull)
    command = EVERY[words]
    for out in (p for p in command.params if isinstance(p.type, OutFile)):
        for name in ("pipe", "null", os.devnull):
            line = [w for p in command.params if p.required and p is not out
                    for w in given(p, "x")]  # fmt: skip
            ran = onnxq(*words, *line, *given(out, name))
            assert ran.code == 2
            assert f"'{name}' is a device or a pipe" in ran.err
