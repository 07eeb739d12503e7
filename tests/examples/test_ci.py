"""The workflow's commands run, in its order, and all of them say yes to the fixture."""

import os
import shlex
from pathlib import Path

import pytest
import yaml
from onnxq_cli.main import run

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / "examples/ci/quantized-model.yml").read_text("utf-8"))
STEPS = [step["run"] for step in WORKFLOW["jobs"]["int8"]["steps"] if "run" in step]


def test_every_command_of_the_workflow_says_yes(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    for name, value in WORKFLOW["env"].items():
        monkeypatch.setenv(name, value)
    commands = [shlex.split(os.path.expandvars(step)) for step in STEPS if step.startswith("onnxq")]
    assert [words[1] for words in commands] == ["quantize", "lint", "compare", "build"]
    for words in commands:
        assert run(words[1:]) == 0, (words, capsys.readouterr().err)
    assert (tmp_path / "lint.sarif").is_file()
