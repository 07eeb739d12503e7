"""What a page says first, as Markdown for a pull request."""

from __future__ import annotations

from typing import Any

from onnxq.escaping import markdown_code, markdown_text
from onnxq.report.html.badge import COLOURS
from onnxq.table import Table

MARKS = {"good": "✅", "doubtful": "⚠️", "poor": "❌"}
assert MARKS.keys() == COLOURS.keys() - {""}
SHOWN = 12  # outputs
FENCE = "```"


def markdown(shown: dict[str, Any]) -> str:
    """The verdict, the cards and the outputs of a `content` value."""
    lines = [f"### onnxq: {markdown_code(shown['title'])}", ""]
    if verdict := shown.get("verdict"):
        more = f"; {verdict['more']}" if verdict["more"] else ""
        mark = MARKS[verdict["grade"]]
        lines += [f"{mark} **{verdict['grade']}**, {markdown_text(verdict['worst'] + more)}", ""]
    cards = [(card["label"], card["value"], card["note"]) for card in shown["summary"]]
    lines += [Table("", ("", "", ""), cards, names=3).markdown().strip(), ""]
    found = shown.get("comparison") or shown.get("agreement")
    if found and found["outputs"]:
        lines += [_outputs(found["outputs"]), ""]
    if verdict and verdict["next"]:
        lines += ["Next:", "", f"{FENCE}sh", verdict["next"], FENCE, ""]
    return "\n".join(lines)


def _outputs(outputs: list[dict[str, Any]]) -> str:
    rows = [
        (o["name"], _number(o.get("sqnr_db"), ".1f"), _number(o.get("cosine"), ".5f"))
        for o in outputs[:SHOWN]
    ]
    table = Table("", ("output", "SQNR dB", "cosine"), rows).markdown().strip()
    more = len(outputs) - SHOWN
    return table + (f"\n\nand {more} more outputs" if more > 0 else "")


def _number(value: float | str | None, form: str) -> str:
    """A figure of the page: a number, or the word for what JSON has none for."""
    return "" if value is None else value if isinstance(value, str) else format(value, form)
