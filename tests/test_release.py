"""What is released: an sdist, and a wheel made from it that works in a clean environment."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import onnxq

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "onnxq", "cli")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_the_version_is_written_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "onnxq.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+([abrc.dev\d]*)", onnxq.__version__)


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == onnxq.__version__


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A package index that pip reaches; the test is skipped where there is none."""
    folder = tmp_path_factory.mktemp("index")
    found = run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries", "0",
                "--timeout", "10", "-d", folder, "setuptools>=77")  # fmt: skip
    if found.returncode:
        last = (found.stderr.strip() or "no reason given").splitlines()[-1]
        pytest.skip(f"pip reaches no package index: {last}")


@pytest.fixture(scope="module")
def dist(index, tmp_path_factory):
    """The folder with both, made of a copy without what git ignores."""
    if find_spec("build") is None:
        pytest.skip("the package 'build' is not installed")
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "build")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignore)
        else:
            shutil.copy(source, copy)
    made = run(sys.executable, "-m", "build", "--outdir", out, copy)
    assert made.returncode == 0, made.stdout + made.stderr
    return out


def run(*words, **more):
    words = [str(word) for word in words]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=CLEAN, **more)


def package_files():
    """Every file of the packages but C sources, as a wheel names it."""
    for folder, base in ((ROOT / "onnxq", ROOT), (ROOT / "cli" / "onnxq_cli", ROOT / "cli")):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix not in (".c", ".pyc", ".so", ".pyd", ".tmp"):
                yield path.relative_to(base).as_posix()


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert set(package_files()) - set(archive.namelist()) == set()


@pytest.mark.slow
def test_the_sdist_holds_the_c_source_and_the_license(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"onnxq/calib/_binning.c", "LICENSE", "README.md", "pyproject.toml"} <= names


@pytest.mark.slow
def test_the_wheel_quantizes_in_a_clean_environment(dist, tmp_path):
    (wheel,) = dist.glob("*.whl")
    assert run(sys.executable, "-m", "venv", tmp_path / "venv").returncode == 0
    programs = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    installed = run(programs / "python", "-m", "pip", "install", "-q", f"{wheel}[cpu]")
    assert installed.returncode == 0, installed.stderr
    said = run(programs / "onnxq", "--version", cwd=tmp_path)
    assert said.stdout.split()[-1] == onnxq.__version__, said.stderr
    fixture = ROOT / "fixtures" / "classifier"
    done = run(programs / "onnxq", "quantize", fixture / "classifier.onnx",
               "--calib", fixture / "calib.npy", "-o", "q.onnx", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "q.onnx.manifest.json").read_text("utf-8"))
    assert manifest["versions"]["onnxq"] == onnxq.__version__
    assert manifest["agreement"]["outputs"]["logits"]["sqnr_db"] > 30
