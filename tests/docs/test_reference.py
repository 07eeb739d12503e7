"""The reference of the command line in the repository is what the commands say."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
spec = importlib.util.spec_from_file_location("list_commands", DOCS / "list_commands.py")
list_commands = importlib.util.module_from_spec(spec)
spec.loader.exec_module(list_commands)


def test_the_reference_is_what_the_commands_say():
    due = "docs/cli.md is stale; write it anew with 'python docs/list_commands.py'"
    assert list_commands.PAGE.read_text("utf-8") == list_commands.page(), due
