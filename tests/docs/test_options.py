"""Commands and options that the pages name outside of blocks are there."""

import re
from pathlib import Path

import pytest
from onnxq_cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)(`{3,})[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
MEASURED = (
    "results",
    "detectors",
    "performance",
    "hardening",
)  # name options of benchmarks
# of trtexec, Polygraphy, Model Optimizer and a benchmark
OTHERS = {"--stronglyTyped", "--load-inputs", "--save-inputs", "--data-loader-script", "--onnxrt",
          "--simplify", "--autotune", "--shared", "--help", "--profilingVerbosity",
          "--save-outputs", "--onnx", "--saveEngine", "--exportProfile",
          "--exportLayerInfo", "--show"}  # fmt: skip


def options():
    """Every option of every command."""
    commands = [cli, *(cli.get_command(None, name) for name in COMMANDS)]
    nested = [c for command in commands for c in getattr(command, "commands", {}).values()]
    for command in (*commands, *nested):
        for param in command.params:
            yield from (*param.opts, *param.secondary_opts)


def spans(text):
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_are_there(page):
    named = [re.match(r"onnxq ([a-z][a-z-]+)", span) for span in spans(page.read_text("utf-8"))]
    assert {match[1] for match in named if match} <= set(COMMANDS)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.stem not in MEASURED], ids=lambda page: page.name
)
def test_options_named_are_there(page):
    text = page.read_text("utf-8")
    if page.name == "tools.md":  # the second column is ours
        text = "\n".join(row.split(" | ")[1] for row in text.splitlines() if row.startswith("| "))
    named = {o for span in spans(text) for o in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)}
    assert named - set(options()) - OTHERS == set()
