"""What a climb came to, as a table, as one line and as Markdown."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Group, RenderableType

from onnxq.escaping import markdown_text
from onnxq.judge.units import with_unit
from onnxq.ladder.result import Rung, Tuned
from onnxq.terminal import line

FEW = 4  # samples that hardly judge


def render(found: Tuned, folder: Path | None = None) -> RenderableType:
    """The rungs, why some were not made, and which was taken; fits 80 columns."""
    made: list[RenderableType] = [found.table(), *map(line, reasons(found)), line(summary(found))]
    if folder is not None:
        names = ", ".join(sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")))
        if found.result is None:
            made.append(line("this was finished before; nothing was run"))
        made.append(line(f"in {folder}: {names}"))
    return Group(*made)


def markdown(found: Tuned) -> str:
    """The same as Markdown."""
    table = found.table()
    lines = "\n".join(f"- {markdown_text(reason)}" for reason in reasons(found))
    said = f"{lines}\n\n" if lines else ""
    return f"{table.markdown()}\n\n{said}{markdown_text(summary(found))}\n"


def reasons(found: Tuned) -> list[str]:
    """A line for each rung that was not made."""
    return [f"{rung.name}: not made: {rung.why}" for rung in found.rungs if not rung.made]


def summary(found: Tuned) -> str:
    """One line: which rung was taken, what it has, and by which samples."""
    taken = found.taken
    assert taken is not None
    said = f"{taken.name}, {figures(found, taken)}, by {found.judges()}"
    if found.samples < FEW:
        said += ", which tell little: give --eval DATA"
    if found.holds:
        return f"the goal is met ({found.goal}): {said}"
    return f"no rung meets the goal ({found.goal}); the best: {said}"


def figures(found: Tuned, rung: Rung) -> str:
    """What a rung was measured at."""
    part = f" ({rung.part})" if rung.part else ""
    db = [] if math.isnan(rung.sqnr_db) else [f"{rung.sqnr_db:.1f} dB{part}"]
    own = [] if found.scored_by == "sqnr" else [
        with_unit(f"{found.scored_by} {rung.figure:.4g}", found.scored_by)
    ]  # fmt: skip
    shares = [] if math.isnan(rung.macs) else [f"{100 * rung.macs:.1f}% of MACs quantized"]
    return ", ".join([*own, *db, *shares])


def said(found: Tuned, rung: Rung) -> str:
    """A line for a rung as it is done."""
    if not rung.made:
        return f"{rung.name}: not made: {rung.why}"
    holds = "meets the goal" if rung.holds else "not enough"
    return f"{rung.name}: {figures(found, rung)}, {rung.seconds:.0f} s: {holds}"
