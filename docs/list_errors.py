"""Every message that ends a command, by part of the program, as Markdown, read from the code.

The site has it at the end of the page troubleshooting.md; `python docs/list_errors.py` prints it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"OnnxqError", "ModelError", "DataError", "PlanError", "WorkerError", "RuntimeMissing",
         "UsageError", "BadParameter"}  # fmt: skip
AREAS = {  # heading -> where its errors are made; the longest of all that fit counts
    "The model": ("model", "files", "passes", "run/segments", "numerics", "pipeline", "api"),
    "Calibration data": ("calib/data", "calib/opening", "calib/sequences", "calib/visited",
                         "model/feedback", "pipeline/feeding", "run/program"),
    "Statistics and ranges": ("calib",),
    "Patterns, plans and options": ("model/patterns", "option", "plan", "spec", "schemes",
                                    "targets", "pipeline/config"),
    "Running models": ("run", "judge", "pipeline/original"),
    "Recovery": ("recover", "pipeline/recoveries"),
    "Finetune": ("finetune",),
    "Sensitivity": ("sensitivity",),
    "Search, tune and recipe": ("search", "ladder", "cost"),
    "Clusters": ("cluster",),
    "TensorRT": ("trt", "layers"),
    "Inspect, reports and plots": ("inspect", "report"),
    "The command line": ("onnxq_cli", "verbs"),
}  # fmt: skip


def template(node: ast.expr) -> str:
    """The text of a message with … for what is filled in; … alone where it is made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.IfExp):
        return f"{template(node.body)} / {template(node.orelse)}"
    return "…"


def messages(path: Path) -> Iterator[tuple[str, str]]:
    """(message, class) of every error that a file makes, in its order."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            said = node.args[:1]
            if name == "FileForm":  # of saved values: the messages are its templates
                name = getattr(node.args[-1], "id", "")
                said = [keyword.value for keyword in node.keywords]
            for text in (" ".join(template(part).split()) for part in said):
                if name in KINDS and sum(c.isalpha() for c in text) > 12:
                    found.append((node.lineno, re.sub(r"\{\w+\}", "…", text), name))
    yield from ((text, name) for _, text, name in sorted(found))


def area_of(path: Path) -> str:
    """The heading that a file's errors stand under."""
    name = path.relative_to(ROOT).as_posix().removeprefix("onnxq/").removeprefix("cli/")
    fitting = [
        (len(prefix), area)
        for area, prefixes in AREAS.items()
        for prefix in prefixes
        if name.startswith((f"{prefix}/", f"{prefix}.", f"{prefix}_"))
    ]
    if fitting:
        return max(fitting)[1]
    raise ValueError(f"no area for '{name}'; add one to AREAS")


def listing() -> str:
    """The messages, each once, under the headings of AREAS."""
    areas: dict[str, dict[str, str]] = {area: {} for area in AREAS}
    for path in sorted([*(ROOT / "onnxq").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]):
        for text, name in messages(path):
            areas[area_of(path)].setdefault(text, name)
    parts = []
    for area, found in areas.items():
        lines = [f"- `{text}` ({name})" for text, name in found.items()]
        parts += [f"\n### {area}\n\n", "\n".join(lines), "\n"] if lines else []
    return "".join(parts)


if __name__ == "__main__":
    print(listing())
