"""The commands agree with each other: where things go by default, what options are called, what is
said of what was written."""

import shutil
import subprocess
import sys

import click
import pytest
from onnxq_cli.main import COMMANDS, cli
from onnxq_cli.paths import OutFile

from onnxq import errors, quantize

SHOWN = {"engine", "compare", "inspect", "diff", "doctor", "plot"}  # no file is what they are for


def commands():
    """Every command by name, and those within one."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        yield name, command
        for inner, one in getattr(command, "commands", {}).items():
            yield f"{name} {inner}", one


def options_called(flag):
    return {name: p for name, command in commands() for p in command.params if flag in p.opts}


@pytest.fixture
def model(classifier, folder):
    shutil.copy(classifier, folder / "m.onnx")
    return "m.onnx"


def test_every_output_has_a_name_by_default():
    found = options_called("-o")
    assert {name.partition(" ")[0] for name in found} | SHOWN == set(COMMANDS)
    for name, option in found.items():
        assert not option.required, name
        assert option.named, name
        assert "efault" in option.help, name


def test_statistics_are_read_by_one_option_and_written_by_another():
    reads = {n: p for n, p in options_called("--stats").items()}
    writes = options_called("--save-stats")
    assert {"quantize", "calibrate", "sensitivity", "report"} <= reads.keys()
    assert {"quantize", "calibrate"} <= writes.keys()
    assert not any(isinstance(p.type, OutFile) for p in reads.values())
    assert all(isinstance(p.type, OutFile) for p in writes.values())


def test_top_is_a_number_of_rows_everywhere():
    for name, option in options_called("--top").items():
        assert isinstance(option.type, click.IntRange), name
        assert option.default, name


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (("quantize", "m.onnx", "--recover", "none"), "m.int8.onnx"),
        (("prepare", "m.onnx"), "m.prepared.onnx"),
        (("plan", "m.onnx"), "m.plan.yaml"),
        (("calibrate", "m.onnx"), "m.ranges.json"),
        (("sensitivity", "m.onnx", "--only", "conv1", "-o", "m.ranking.csv"), "m.ranking.csv"),
    ],
)
def test_what_is_written_lies_beside_the_model_and_is_named(done, model, images, words, written):
    data = ("--calib", images, "--samples", 8) if words[0] not in ("prepare", "plan") else ()
    ran = done(*words, *data)
    (line,) = [line for line in ran.out.splitlines() if line.startswith("written: ")]
    assert written in line.removeprefix("written: ").split(", ")


def test_nothing_is_written_beside_what_is_not_there(refused, folder):
    assert "no.onnx" in refused("plan", "no.onnx")
    assert not list(folder.iterdir())


def test_a_result_in_json_is_json_alone(done, model):
    ran = done("plan", model, "--json")
    assert ran.out.rstrip().endswith("}")
    assert not ran.err


def test_names_of_the_last_release_are_taken_and_said(onnxq, model, images, folder):
    ran = onnxq("calibrate", model, "--calib", images, "--samples", 4, "--stats", "new.npz")
    assert ran.code == 0
    assert "--save-stats" in ran.err
    assert (folder / "new.npz").exists()
    ran = onnxq("calibrate", model, "--from-stats", "new.npz")
    assert ran.code == 0
    assert "--from-stats is called --stats now" in ran.err


def test_statistics_that_are_there_are_never_written_over_by_reading_them(
    refused, done, model, images, folder
):
    done("calibrate", model, "--calib", images, "--samples", 4, "--save-stats", "s.npz")
    before = (folder / "s.npz").read_bytes()
    line = refused("calibrate", model, "--calib", images, "--stats", "s.npz")
    assert "--save-stats writes" in line
    assert (folder / "s.npz").read_bytes() == before


def test_a_recipe_replaces_its_own_folder_alone(done, refused, model, images, folder):
    words = ("recipe", model, "--calib", images, "--samples", 8, "--worst", "0,1", "--recover",
             "none")  # fmt: skip
    done(*words)
    before = (folder / "m.recipe/recipe.json").read_bytes()
    (folder / "m.recipe/mine.txt").write_text("of the last one", "utf-8")
    done(*words)
    assert (folder / "m.recipe/recipe.json").read_bytes() == before
    assert not (folder / "m.recipe/mine.txt").exists()
    (folder / "other").mkdir()
    assert "no recipe made it" in refused(*words, "-o", "other")


def test_a_plan_is_shown_without_data(done, refused, model):
    assert "kind: onnxq.plan" in done("quantize", model, "--dry-run").out
    assert "Missing option '--calib'" in refused("quantize", model)


@pytest.mark.parametrize("words", [("compare",), ("compare", "--save-golden", "g.npz")])
def test_models_the_wrong_way_round_are_noticed(done, refused, model, images, words, folder):
    done("quantize", model, "--calib", images, "--samples", 8, "-o", "q.onnx")
    line = refused(words[0], "q.onnx", model, "--calib", images, *words[1:])
    assert line == "'q.onnx' is quantized and 'm.onnx' is not; give the float model first"
    assert not (folder / "g.npz").exists()
    done("compare", "q.onnx", "q.onnx", "--calib", images, "--samples", 4)  # two of a kind may


def test_a_scheme_under_another_name_is_told_its_own(refused, model, images):
    line = refused("quantize", model, "--calib", images, "--scheme", "int8")
    assert "int8 is called 'w8a8' here" in line
    with pytest.raises(errors.PlanError, match="choose w8a8"):
        quantize(model, images, scheme="int8")


def test_help_is_a_command_too(done):
    assert done("help", "quantize").out == done("quantize", "--help").out
    assert done("help", "plot", "pareto").out == done("plot", "pareto", "--help").out
    assert done("help").out == done("--help").out


def test_the_package_runs_as_the_command():
    ran = subprocess.run(
        [sys.executable, "-m", "onnxq", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("onnxq, version")
