"""What the pages say of errors is what the code says."""

import ast
import importlib.util
import re
from pathlib import Path

from onnxq import errors
from onnxq.trt.lint import RULES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
spec = importlib.util.spec_from_file_location("list_errors", ROOT / "docs" / "list_errors.py")
list_errors = importlib.util.module_from_spec(spec)
spec.loader.exec_module(list_errors)


def said():
    """Every text of the code, with … for what is filled in."""
    for folder in ("onnxq", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr | ast.Constant):
                    yield " ".join(list_errors.template(node).split())


def rows(header):
    """The first cells of the tables with that header."""
    tables = re.findall(rf"^\| {header} .*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return re.findall(r"^\| `(.+?)` \|", "".join(tables), re.MULTILINE)


def test_each_message_with_a_cure_is_one_that_the_code_says():
    texts = set(said())
    found = rows("it says")
    assert len(found) > 30
    assert [m for m in found if not any(m in text for text in texts)] == []


def test_the_lint_rules_on_their_page_are_those_of_the_code():
    table = (ROOT / "docs" / "lint.md").read_text("utf-8").partition("## The rules")[2]
    named = re.findall(
        r"^\| `([a-z0-9-]+)` \| (?:refused|inaccurate|slow|info)", table, re.MULTILINE
    )
    assert named == [rule.name for rule in RULES]


def test_the_classes_are_those_of_the_code():
    kinds = {name for name, value in vars(errors).items()
             if isinstance(value, type) and value.__base__ is errors.OnnxqError}  # fmt: skip
    assert set(rows("class")) == kinds


def test_every_error_of_the_code_is_listed_once():
    listed = re.findall(r"^- `(.+)` \(\w+\)$", list_errors.listing(), re.MULTILINE)
    assert len(listed) > 200
    assert "no model at '…'; check the path" in listed
    sources = [*(ROOT / "onnxq").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    assert {text for path in sources for text, _ in list_errors.messages(path)} == set(listed)
