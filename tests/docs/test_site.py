"""The site builds without a warning, has every command and verb in it, and asks no network."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sphinx_build = pytest.importorskip("sphinx.cmd.build", reason='pip install "onnxq[docs]"')
for package in ("furo", "myst_parser", "sphinx_click"):
    pytest.importorskip(package, reason='pip install "onnxq[docs]"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    code = sphinx_build.main(["-q", "-W", "--keep-going", str(ROOT / "docs"), str(out)])
    assert code == 0, "Sphinx warned: see above"
    return out


def test_every_page_is_built(site):
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem not in ("search", "genindex"), "Sphinx writes a page of that name"
        heading = page.read_text("utf-8").splitlines()[0].removeprefix("# ").partition("`")[0]
        assert heading.strip("' ") in (site / f"{page.stem}.html").read_text("utf-8")


def test_every_command_and_option_is_in_its_reference(site):
    from onnxq_cli.main import cli

    listed = (site / "cli.html").read_text("utf-8")
    for name in cli.list_commands(None):
        command = cli.get_command(None, name)
        assert f'href="commands/{name}.html"' in listed
        shown = (site / "commands" / f"{name}.html").read_text("utf-8")
        assert f'id="onnxq-{name}"' in shown
        for option in (opt for p in command.params for opt in p.opts if opt.startswith("--")):
            assert f'id="cmdoption-onnxq-{name}-{option.lstrip("-")}"' in shown, option


def test_the_verbs_are_in_the_reference(site):
    from onnxq import api

    shown = (site / "api.html").read_text("utf-8")
    for name in api.__all__:
        assert re.search(rf'id="[\w.]*\b{name}"', shown), name


def test_no_page_loads_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]+href="([^"]+)"', text)
        assert not [x for x in loaded if x.startswith(("http", "//"))], page.name
