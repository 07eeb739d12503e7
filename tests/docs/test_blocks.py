"""Every command and every line of Python in the README and in docs/ runs, page by page, in order.

A page's blocks run one after the other in one folder, which holds the files that `prepared` makes.
A block of Python that begins with `# NAME.py` is that file too. What cannot run here says why in a
comment in front of its block, `<!-- not run: reason -->`, or, for those of its commands that begin
with some text, `<!-- not run, "trtexec": reason -->`. A block under `<!-- exits with 1 -->` ends
with a command whose answer is no. What the tutorial shows of their output, they print.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnxq_cli.main import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!-- *((?:(?!-->).)*?) *-->\s*\Z", re.DOTALL)
NOT_RUN = re.compile(r'not run(?:, "(.+)")?: *(.+)', re.DOTALL)
LANGUAGES = {"sh", "python", "text", "yaml", "json", "{toctree}", "{eval-rst}"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, what the comment in front of it says, its line."""

    language: str
    text: str
    note: str
    line: int

    @property
    def reason(self) -> str:
        """Why nothing of it is run, or nothing."""
        found = NOT_RUN.match(self.note)
        return found[2] if found and not found[1] else ""

    @property
    def left_out(self) -> str:
        """What the commands begin with that are not run, where others of the block are."""
        found = NOT_RUN.match(self.note)
        return (found[1] or "") if found else ""

    @property
    def code(self) -> int:
        """The exit code of its last command."""
        return int(self.note.removeprefix("exits with ")) if "exits with " in self.note else 0


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        comment = COMMENT.search(text, 0, match.start())
        note = " ".join(comment[1].split()) if comment else ""
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[3].strip().split(" ")[0], match[4], note, line))
    return found


def commands(text: str) -> list[str]:
    """The commands of a block: lines joined at a backslash and parted at &&."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part and not part.startswith("#")]


def title(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def is_written(page: Path) -> bool:
    """Whether a benchmark writes the page: its commands take hours and data that is not here."""
    return "do not edit" in page.read_text("utf-8")


RUNNABLE = [p for p in PAGES if any(b.language in ("sh", "python") for b in blocks(p))]


@pytest.fixture
def prepared(page, tmp_path, monkeypatch):
    """A folder with the fixtures, and with the model that a page says to copy from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # rows are whole then
    monkeypatch.syspath_prepend(str(tmp_path))
    if "fixtures/classifier" in page.read_text("utf-8"):  # which says where they come from
        classifier = ROOT / "fixtures" / "classifier"
        shutil.copy(classifier / "classifier.onnx", "model.onnx")
        np.save("calib.npy", np.load(classifier / "calib.npy")[:24])
    if "fixtures/" in page.read_text("utf-8"):
        kept = shutil.ignore_patterns("__pycache__", "make.py")
        shutil.copytree(ROOT / "fixtures", "fixtures", ignore=kept)
    return tmp_path


def shape(line: str) -> str:
    """A printed line without its widths and digits, which differ between machines."""
    return " ".join(re.sub(r"\d[\d.]*", "#", line).split())


def execute(command: str) -> int:
    """Run a command, onnxq in this process where it can; returns its exit code.

    Custom ops stay registered as long as a process lives, and a name only once.
    """
    own = re.search(r" [|<>]| --ort-extension", command.split(" # ")[0])
    if command.startswith("onnxq ") and not own:
        return run(shlex.split(command, comments=True)[1:])
    shown = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shown["PYTHONPATH"] = f"{ROOT}:{ROOT / 'cli'}"
    return subprocess.run(["bash", "-c", command], env=shown, check=False).returncode


SLOW = ("tutorial", "models", "cli")  # on a busy machine


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.slow] if p.stem in SLOW else []) for p in RUNNABLE],
    ids=map(title, RUNNABLE),
)
def test_the_blocks_of_a_page_run(page, prepared, capfd):
    names: dict[str, object] = {"__name__": "page"}
    printed: set[str] = set()
    engines = True
    for block in blocks(page):
        if block.reason:
            continue
        where = f"{title(page)}:{block.line}"
        if module := re.match(r"# (\w+\.py)\n", block.text):
            Path(module[1]).write_text(block.text)
        if block.language == "python" and "__main__" in block.text:
            Path("script.py").write_text(block.text)
            assert execute("python script.py") == 0, where
        elif block.language == "python":
            exec(compile(block.text, where, "exec"), names)
        elif block.language == "sh":
            todo = commands(block.text)
            kept = [c for c in todo if not (block.left_out and c.startswith(block.left_out))]
            for command in kept:
                code = execute(command)
                said = capfd.readouterr()
                printed |= set(map(shape, said.out.splitlines()))
                if "no TensorRT can be imported" in said.err:
                    engines = False
                    continue  # a machine without it; elsewhere the command is run
                expected = block.code if command == kept[-1] else 0
                assert code == expected, f"{where}: {command}\n{said.out[-2000:]}{said.err}"
        elif block.language == "text" and page.stem == "tutorial" and engines:
            shown = {shape(line): line for line in block.text.splitlines() if line != "..."}
            assert [line for form, line in shown.items() if form not in printed] == []


def test_what_is_not_run_has_a_reason_and_is_the_lesser_part(capsys):
    found = [(p, b) for p in PAGES for b in blocks(p) if b.language in ("sh", "python")]
    left = [(p, b) for p, b in found if NOT_RUN.match(b.note)]
    with capsys.disabled():
        print(f"\n{len(left)} of {len(found)} blocks of the pages are not run, or not wholly:")
        for page, block in left:
            note = block.note.removeprefix("not run").lstrip(":, ")
            print(f"  {title(page)}:{block.line}: {note[:90]}")
    assert len(left) < len(found) / 3
    for page, block in left:
        named = block.left_out
        assert not named or any(c.startswith(named) for c in commands(block.text)), title(page)


@pytest.mark.parametrize("page", [p for p in PAGES if not is_written(p)], ids=title)
def test_a_page_has_no_code_that_escapes(page):
    text = page.read_text("utf-8")
    assert {b.language for b in blocks(page)} <= LANGUAGES, "a block without a known language"
    plain = FENCE.sub("", text)
    assert not re.search(
        r"\n\n(?: {4,}|\t)\S", re.sub(r"(?m)^( *[-*]|\d+\.) .*(\n+ +.*)*", "", plain)
    )
    markers = re.findall(r"(?<!`)<!-- *(not run|exits with)", text)
    notes = [b.note for b in blocks(page) if b.note.startswith(("not run", "exits with"))]
    assert len(markers) == len(notes), "a comment about running that stands before no block"
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text)
