from __future__ import annotations

import sys

import pytest


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of data in the current folder; returns the name of its `feeds`."""

    def write(text):
        (tmp_path / "some_data.py").write_text("import numpy as np\n" + text)
        monkeypatch.chdir(tmp_path)
        sys.modules.pop("some_data", None)
        return "some_data:feeds"

    yield write
    sys.modules.pop("some_data", None)
