"""The page's script: modules that are joined into one text, tested where node is installed."""

import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from onnxq.report.html.modules import EXPORT, joined

ASSETS = Path(str(resources.files("onnxq.report.html"))) / "assets"
SCRIPTS = sorted(ASSETS.glob("*.mjs"))
TESTS = Path(__file__).with_name("script")
WIDTH, LENGTH = 100, 300
NODE = shutil.which("node")


def source(**modules):
    return modules.__getitem__


def test_a_module_stands_after_what_it_imports_and_sees_nothing_else():
    text = joined("main", source(
        main='import { a } from "./one.mjs";\nconst hidden = a;\n',
        one="const hidden = 1;\nexport const a = hidden;\n",
    ))  # fmt: skip
    assert text.index("const one_module") < text.index("const main_module")
    assert "const { a } = one_module;" in text
    assert not re.search(r"^(import|export)", text, re.MULTILINE)


def test_a_module_that_two_import_is_there_once():
    text = joined("main", source(
        main='import { a } from "./a.mjs";\nimport { b } from "./b.mjs";\n',
        a='import { c } from "./c.mjs";\nexport const a = c;\n',
        b='import { c } from "./c.mjs";\nexport const b = c;\n',
        c="export const c = 1;\n",
    ))  # fmt: skip
    assert text.count("const c_module") == 1


def test_modules_in_a_circle_are_refused():
    circle = source(a='import { b } from "./b.mjs";\n', b='import { a } from "./a.mjs";\n')
    with pytest.raises(ValueError, match="a -> b -> a"):
        joined("a", circle)


@pytest.mark.parametrize("line", ['import "./x.mjs";', "export default 1;", "export { a };"])
def test_a_form_that_cannot_be_joined_is_refused(line):
    with pytest.raises(ValueError, match="that can be joined"):
        joined("main", source(main=f"{line}\n"))


def test_every_module_is_used_and_what_it_imports_is_exported():
    text = joined("main", lambda name: (ASSETS / f"{name}.mjs").read_text("utf-8"))
    assert {path.stem for path in SCRIPTS} == set(re.findall(r"const (\w+)_module = \(", text))
    texts = {path.stem: path.read_text("utf-8") for path in SCRIPTS}
    for name, text in texts.items():
        for names, module in re.findall(r'import \{ ([^}]+) \} from "\./(\w+)', text):
            exported = set(EXPORT.findall(texts[module]))
            assert set(re.split(r",\s*", names.strip())) <= exported, f"{name} of {module}"


@pytest.mark.parametrize("path", [*SCRIPTS, *sorted(TESTS.glob("*.mjs"))], ids=lambda p: p.name)
def test_lines_and_files_are_short(path):
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) < LENGTH
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_pure_functions_pass_their_own_tests():
    files = sorted(TESTS.glob("*.test.mjs"))
    ran = subprocess.run(
        [NODE, "--test", *map(str, files)], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert re.search(r"# pass [1-9]", ran.stdout) or re.search(r"pass [1-9]", ran.stdout)
