"""What a recipe came to, as a table and as Markdown."""

from __future__ import annotations

from rich.console import Group, RenderableType

from onnxq.escaping import markdown_code, markdown_text
from onnxq.report.text import count, line, table
from onnxq.search.recipe import Recipe

UNITS = {"sqnr": " dB", "top1": " %"}


def render(found: Recipe) -> RenderableType:
    """The table and the summary for a terminal; fits 80 columns."""
    return Group(table(_title(found), _columns(found), _rows(found)), line(summary(found)))


def markdown(found: Recipe) -> str:
    """The same as Markdown, with the nodes that are left float."""
    columns = _columns(found)
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *_rows(found)]
    body = "\n".join(f"| {' | '.join(map(markdown_text, cells))} |" for cells in lines)
    floats = "".join(f"- {markdown_code(name)}\n" for name in found.chosen.trial.floats)
    return f"# {_title(found)}\n\n{body}\n\n{summary(found)}\n\n{floats}"


def summary(found: Recipe) -> str:
    """One line: which K was taken, and why."""
    trial, unit = found.chosen.trial, UNITS.get(found.metric, "")
    said = (
        f"K = {found.chosen.count}: {found.metric} {trial.score:.5g}{unit}, cost {trial.cost:.3f}"
    )
    if found.budget is None:
        return f"the best is {said}"
    if not found.holds:
        return f"no K keeps to a {found.budget}; the best is {said}"
    return f"the least that keeps to a {found.budget} is {said}"


def _title(found: Recipe) -> str:
    return f"The worst K nodes left float, over {count(found.samples, 'sample')}"


def _columns(found: Recipe) -> list[str]:
    score = f"{found.metric}{UNITS.get(found.metric, '')}"
    return ["K", score, f"cost ({found.cost})", "quantized MACs %", "holds"]


def _rows(found: Recipe) -> list[list[str]]:
    rows = [["float model", f"{found.reference:.5g}", "1.000", "0.0", "-"]]
    for step in found.steps:
        t = step.trial
        error = f" ± {t.stderr:.2g}" if t.stderr else ""
        name = f"{step.count}, taken" if step is found.chosen else str(step.count)
        holds = "-" if found.budget is None else ("yes" if t.holds else "no")
        rows.append([name, f"{t.score:.5g}{error}", f"{t.cost:.3f}", f"{100 * t.share:.1f}", holds])
    return rows
