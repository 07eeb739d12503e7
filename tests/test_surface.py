"""What commands do are functions on the package: typed, loaded when used, no name a module's."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from onnxq_cli.main import COMMANDS

import onnxq
from onnxq import api
from onnxq.moved import MOVED

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = [name for name in onnxq.__all__ if inspect.isfunction(getattr(onnxq, name))]


def test_every_name_is_there_for_the_type_checker_and_for_python():
    tree = ast.parse(Path(onnxq.__file__).read_text("utf-8"))
    seen = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in node.body
        for name in line.names
    }
    assert seen == set(onnxq.__all__)
    assert all(getattr(onnxq, name) is not None for name in onnxq.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = onnxq.nonsense


def test_no_name_is_that_of_a_module():
    modules = {module.name for module in pkgutil.iter_modules(onnxq.__path__)}
    modules |= {name.partition(".")[0] for name in MOVED}
    assert set(onnxq.__all__) & modules == set()
    assert onnxq.search_plan
    assert importlib.import_module("onnxq.search.search").search  # the package goes on working


def test_all_verbs_of_the_api_but_those_of_modules_are_on_the_package():
    left_out = {"plan", "read", "recover", "sensitivity"}
    assert set(api.__all__) - set(onnxq.__all__) == left_out
    assert api.make_plan is api.plan
    assert api.read_ranges is api.read


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_the_type_of_all_that_it_takes_and_returns(name):
    signature = inspect.signature(getattr(onnxq, name))
    assert signature.return_annotation is not signature.empty
    for parameter in signature.parameters.values():
        # keywords without names of their own are those of a TypedDict, which editors know
        assert parameter.kind is not parameter.VAR_KEYWORD or "Unpack[" in str(parameter.annotation)
        assert parameter.annotation is not parameter.empty
        assert not re.search(r"\bAny\b", str(parameter.annotation)), parameter.name
    assert not re.fullmatch(r"Any", str(signature.return_annotation))


def test_every_command_has_its_function_on_the_page():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    rows = re.findall(r"^\| `onnxq ([a-z-]+)` \| (.+?) \|", page, re.MULTILINE)
    assert {command for command, _ in rows} == set(COMMANDS)
    for _, functions in rows:
        assert {*re.findall(r"`(\w+)`", functions)} <= set(FUNCTIONS)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, onnxq; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                         check=True)  # fmt: skip
    heavy = {"numpy", "onnx", "onnxruntime", "onnx_graphsurgeon", "rich", "click", "onnxq.api"}
    assert heavy & set(ran.stdout.split()) == set()


@pytest.mark.slow
def test_an_editor_sees_the_types(tmp_path):
    pytest.importorskip("mypy", reason='pip install "onnxq[dev]"')
    code = tmp_path / "use.py"
    code.write_text(
        "import onnxq\n"
        'result = onnxq.quantize("m.onnx", ["x.npy"], onnxq.Config(method="mse"))\n'
        "reveal_type(result.plan)\n"
        'reveal_type(onnxq.rank_nodes("m.onnx", ["x.npy"]).ranking)\n'
        "onnxq.nonsense\n"
    )
    ran = subprocess.run([sys.executable, "-m", "mypy", "--strict", str(code)], cwd=ROOT,
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert 'Revealed type is "onnxq.plan.Plan"' in ran.stdout, ran.stdout + ran.stderr
    assert 'Revealed type is "onnxq.sensitivity.ranking.Ranking"' in ran.stdout
    assert 'Module has no attribute "nonsense"' in ran.stdout
