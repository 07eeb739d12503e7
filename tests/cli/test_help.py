"""Help: every command has it, it fits a terminal, and its examples run."""

import re
import shlex
import shutil

import click
import pytest
from layer_files import INT8, residual_block, written
from onnxq_cli.main import COMMANDS, cli


def command_of(name):
    return cli.get_command(click.Context(cli), name)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_and_ends_in_an_example(done, name):
    lines = done(name, "--help").out.rstrip().splitlines()
    assert all(len(line) <= 80 for line in lines)
    example = " ".join(" ".join(lines).split()).rpartition("Example: ")[2]
    assert example.startswith(f"onnxq {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does_and_its_default(name):
    for option in command_of(name).params:
        if not isinstance(option, click.Option):
            continue
        assert option.help, option.name
        given = isinstance(option.default, int | float | str) and option.default is not False
        assert not given or option.show_default or "efault" in option.help, option.name


def test_the_group_lists_every_command(done):
    text = done("--help").out
    assert all(re.search(rf"^  {name}  ", text, re.MULTILINE) for name in COMMANDS)
    assert "..." not in text.partition("Commands:")[2]  # a line each, none cut short
    assert "..." not in done("plot", "--help").out.partition("Commands:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_louder_and_quieter(name):
    command = command_of(name)
    for one in (command, *getattr(command, "commands", {}).values()):
        assert {"-v", "-q"} <= {text for option in one.params for text in option.opts}


@pytest.fixture
def workplace(done, fixtures, folder, made_once):
    """A folder with what the examples read."""

    def make(made):
        model, data = fixtures / "classifier/classifier.onnx", fixtures / "classifier/calib.npy"
        quantized, stats = made / "model.int8.onnx", made / "a.npz"
        done("quantize", model, "--calib", data, "-o", quantized)
        done("calibrate", model, "--calib", data, "--save-stats", stats, "-o", made / "ranges.json")
        shutil.copy(stats, made / "b.npz")
        shutil.copy(quantized, made / "quantized.onnx")

    ignore = shutil.ignore_patterns("*.py", "__pycache__", "eval.npz")
    shutil.copytree(fixtures, "fixtures", ignore=ignore)
    layers, profile = residual_block(INT8)
    written(folder, "layers.json", layers)
    written(folder, "profile.json", profile)
    shutil.copytree(made_once("help", make), ".", dirs_exist_ok=True)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_runs(onnxq, name):
    words = shlex.split(command_of(name).epilog.removeprefix("Example: onnxq "))
    ran = onnxq(*words)
    if "no TensorRT can be imported" in ran.err:
        pytest.skip("there is no TensorRT here")
    if "finetune needs torch" in ran.err:
        pytest.skip("there is no torch here")
    assert ran.code in (0, 1), ran.err  # 1: it ran, and has something to object to
