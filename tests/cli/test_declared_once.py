"""Options are the fields of the dataclasses that they become: nothing of them stands twice."""

import ast
from dataclasses import fields
from pathlib import Path

import click
import pytest
from onnxq_cli.fields import value_of
from onnxq_cli.main import COMMANDS, cli
from onnxq_cli.options import config_of
from onnxq_cli.sections import FEW, Command

from onnxq.finetune.options import FinetuneOptions
from onnxq.judge.gates import Thresholds
from onnxq.option import KEY
from onnxq.pipeline.config import Config
from onnxq.schemes import SCHEMES
from onnxq.search.options import SearchOptions
from onnxq.sensitivity.options import Options
from onnxq.targets.options import PlanOptions
from onnxq.trt.build import BuildOptions

CLI = Path(__file__).resolve().parents[2] / "cli" / "onnxq_cli"
WHOLE = {  # command -> the dataclasses of which every field is an option of it
    "quantize": (PlanOptions, Config),
    "finetune": (PlanOptions, Config, FinetuneOptions),
    "plan": (PlanOptions,),
    "calibrate": (PlanOptions,),
    "sensitivity": (PlanOptions, Options),
    "search": (PlanOptions, SearchOptions),
    "recipe": (PlanOptions,),
    "build": (BuildOptions,),
    "compare": (Thresholds,),
}
NOT_TYPED = {  # fields that are made of options of other names
    Config: {"placement"},
    FinetuneOptions: set(),
    PlanOptions: {"high_precision"},  # the Config's
    Options: {"labels"},
    SearchOptions: {"budget", "labels"},
    BuildOptions: {"timeout"},
    Thresholds: set(),
}
# Options that are another thing where they have the name of a field.
OTHERS = {
    ("data", "check_samples"),  # all samples by default
    ("recipe", "top"),  # numbers of nodes to leave float
    ("compare", "top"),
    ("diff", "top"),
    ("prepare", "fix"),
    ("prepare", "requantize"),
    ("plot", "method"),  # methods to draw
    ("lint", "backend"),  # whose documentation, or behaviour
    ("search", "min_sqnr"),  # of the budget
}


def command_of(name):
    return cli.get_command(click.Context(cli), name)


def params_of(name):
    return {p.name: p for p in command_of(name).params if isinstance(p, click.Option)}


@pytest.mark.parametrize("kind", NOT_TYPED)
def test_every_field_is_an_option_or_says_why_not(kind):
    assert {f.name for f in fields(kind) if KEY not in f.metadata} == NOT_TYPED[kind]


@pytest.mark.parametrize("name", WHOLE)
def test_a_command_has_every_field_as_an_option(name):
    wanted = {f.name for kind in WHOLE[name] for f in fields(kind) if KEY in f.metadata}
    assert wanted <= params_of(name).keys()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quantize", []),
        ("calibrate", ["-o", "ranges.json"]),
        ("sensitivity", []),
        ("search", []),
        ("recipe", ["-o", "folder"]),
    ],
)
def test_a_command_without_options_is_told_the_defaults(name, words):
    given = command_of(name).make_context(name, ["m.onnx", "--calib", "x", *words]).params
    assert config_of(given) == Config()
    if name == "sensitivity":
        assert value_of(Options, given) == Options()
    if name in ("search", "recipe"):
        assert value_of(SearchOptions, given, budget=None) == SearchOptions(None)


def test_choices_bounds_and_units_are_those_of_the_fields():
    options = params_of("quantize")
    assert options["scheme"].type.choices == tuple(SCHEMES)
    assert options["deconv"].type.choices == ("float", "per-tensor", "per-channel")
    assert options["keep_first"].type.min == 0
    given = ["m.onnx", "--calib", "x", "--max-memory", "2", "--curve", "0,3", "--block-size", "32"]
    found = command_of("sensitivity").make_context("sensitivity", given).params
    assert value_of(Options, found) == Options(max_memory=2 << 20, curve=(0, 3))
    assert config_of(found) == Config(PlanOptions(block_size=32), max_memory=2)


def test_no_command_declares_an_option_that_a_field_declares():
    named = {f"--{f.name.replace('_', '-')}" for kind in NOT_TYPED for f in fields(kind)}
    named |= {f.metadata[KEY].flag for k in NOT_TYPED for f in fields(k) if KEY in f.metadata}
    allowed = {f"--{name.replace('_', '-')}" for _, name in OTHERS} | {"--labels"}
    allowed |= {"--outputs"}  # of a device, in `compare`
    allowed |= {"--layers"}  # of an arch, in `build`
    allowed |= {"--metric"}  # a function alone, in `compare`
    found = set()
    for path in CLI.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "option":
                found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    assert "--calib" in found
    assert found & named <= allowed


def test_a_short_help_needs_no_titles_and_a_long_one_has_them(done):
    for name in COMMANDS:
        command = command_of(name)
        if not isinstance(command, Command):
            continue
        sections = command.sections(click.Context(command))
        count = sum(map(len, sections.values()))
        assert (len(sections) > 1) == (count > FEW), name
        if count > FEW:
            assert [p.name for p in sections["Options"]] == list(command.first)
    text = done("quantize", "--help").out
    titles = [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles == ["Options", "Placement", "Calibration", "Precision", "Running", "Output",
                      "Help"]  # fmt: skip
    assert (
        text.index("--out") < text.index("--method") < text.index("--skip") < text.index("--only")
    )


def test_the_group_help_and_the_version_load_no_command(monkeypatch, done):
    monkeypatch.setattr("importlib.import_module", None)
    assert "quantize" in done("--help").out
    assert done("--version").out
