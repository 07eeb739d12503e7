"""The README's table of folders is true; its commands and links: tests/docs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (ROOT / "README.md").read_text("utf-8").partition("## Where things live")[2]


@pytest.mark.parametrize("path", re.findall(r"^\| (`.*?) \|", FOLDERS, re.MULTILINE))
def test_the_folders_named_are_there(path):
    assert all((ROOT / name.strip("`")).exists() for name in path.split(", "))
