"""The wheel holds every package of the repository."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_package_is_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "onnxq").rglob("__init__.py")
    }
    beside = {"onnxq_cli", "onnxq.report.html.assets"}  # the second holds files, no module
    assert set(settings["packages"]) == found | beside
