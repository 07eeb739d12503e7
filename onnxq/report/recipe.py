"""What a recipe came to, as a table and as Markdown."""

from __future__ import annotations

from rich.console import Group, RenderableType

from onnxq.escaping import markdown_code
from onnxq.judge.units import with_unit
from onnxq.search.recipe import Recipe
from onnxq.table import Table
from onnxq.terminal import line
from onnxq.words import count


def render(found: Recipe) -> RenderableType:
    """The table and the summary for a terminal; fits 80 columns."""
    return Group(_table(found), line(summary(found)))


def markdown(found: Recipe) -> str:
    """The same as Markdown, with the nodes that are left float."""
    table = _table(found)
    floats = "".join(f"- {markdown_code(name)}\n" for name in found.chosen.trial.floats)
    return f"# {table.title}\n\n{table.markdown()}\n\n{summary(found)}\n\n{floats}"


def summary(found: Recipe) -> str:
    """One line: which K was taken, and why."""
    trial = found.chosen.trial
    score = with_unit(f"{found.metric} {trial.score:.5g}", found.metric)
    said = f"K = {found.chosen.count}: {score}, cost {trial.cost:.3f}"
    if found.budget is None:
        return f"the best is {said}"
    if not found.holds:
        return f"no K keeps to a {found.budget}; the best is {said}"
    return f"the least that keeps to a {found.budget} is {said}"


def _table(found: Recipe) -> Table:
    score = with_unit(found.metric, found.metric)
    columns = ("K", score, f"cost ({found.cost})", "quantized MACs %", "holds")
    rows = [["float model", f"{found.reference:.5g}", "1.000", "0.0", "-"]]
    for step in found.steps:
        t = step.trial
        name = f"{step.count}, taken" if step is found.chosen else str(step.count)
        holds = "-" if found.budget is None else ("yes" if t.holds else "no")
        rows.append([name, t.measured, f"{t.cost:.3f}", f"{100 * t.share:.1f}", holds])
    title = f"The worst K nodes left float, over {count(found.samples, 'sample')}"
    return Table(title, columns, rows)
