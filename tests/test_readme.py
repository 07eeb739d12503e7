"""The README's table of folders is true; its commands and links: tests/docs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", re.findall(r"^\| (`.*?) \|", README, re.MULTILINE))
def test_the_folders_named_are_there(path):
    assert all((ROOT / name.strip("`")).exists() for name in path.split(", "))
