"""Cost against score of the plans that a search measured: tables, CSV, JSON, Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from onnxq.escaping import markdown_text
from onnxq.judge.plain import cannot
from onnxq.judge.units import with_unit
from onnxq.report import plot_pareto
from onnxq.report.forms import Forms
from onnxq.search.result import Result, Trial
from onnxq.table import Table
from onnxq.terminal import line
from onnxq.words import count

LEGEND = "%: of the weights / of the multiply-accumulates; float: nodes that stay float"
NAMED = 8  # nodes left float that are listed


def render(result: Result) -> RenderableType:
    """The plans by rising cost, and what was chosen; fits 80 columns."""
    found: list[RenderableType] = [_table(result), Text(LEGEND)]
    learnt = result.learnt.lines() if result.learnt else []
    found += [*map(line, (*notes(result), *learnt)), line(summary(result))]
    if result.chosen and result.chosen.floats:
        floats = result.chosen.floats
        more = f" and {len(floats) - NAMED} more" if len(floats) > NAMED else ""
        found.append(line(f"left float: {', '.join(floats[:NAMED])}{more}"))
    return Group(*found)


def summary(result: Result) -> str:
    """One line: what was chosen, or what comes nearest to the budget."""
    if result.chosen is None and result.nearest is None and result.learnt is not None:
        return result.learnt.pays.headline  # the cheapest plan leaves all float
    if result.chosen is None:
        nearest = "nothing" if result.nearest is None else _said(result, result.nearest)
        return f"no measured plan keeps to a {result.budget}; the nearest has {nearest}"
    return f"chosen for a {result.budget}: {_said(result, result.chosen)}"


def notes(result: Result) -> Iterator[str]:
    """A line that says how many plans a plain ONNX Runtime session could not run, and why."""
    troubles = [trial.trouble for trial in result.trials if trial.trouble]
    if troubles:
        yield f"{len(troubles)} of {count(len(result.trials), 'plan')}: {cannot(troubles[0])}"


def _said(result: Result, trial: Trial) -> str:
    score = with_unit(f"{result.metric} {trial.score:.5g}", result.metric)
    nodes = len(trial.floats) + len(trial.choices)
    return f"cost {trial.cost:.3f}, {score}, {len(trial.floats)} of {nodes} nodes float"


def markdown(result: Result) -> str:
    """The table and the summary as Markdown."""
    table = _table(result)
    said = "\n\n".join([LEGEND, *map(markdown_text, notes(result)), summary(result)])
    return f"## {table.title}\n\n{table.markdown()}\n\n{said}\n"


def _table(result: Result) -> Table:
    reference = f"; float: {result.reference:.5g}" if math.isfinite(result.reference) else ""
    samples = count(result.samples, "sample")
    title = f"Cost ({result.cost}) against {result.metric} over {samples}{reference}"
    shares = [f"{choice} %" for choice in result.choices]
    score = with_unit(result.metric, result.metric)
    rows = [
        (
            result.standing(trial) or "-",
            f"{trial.cost:.3f}",
            *(_share(trial, choice) for choice in result.choices),
            len(trial.floats),
            trial.measured,
            "yes" if trial.holds else "no",
        )
        for trial in result.trials
    ]
    return Table(title, ("plan", "cost", *shares, "float", score, "holds"), rows)


def _share(trial: Trial, choice: str) -> str:
    share = trial.shares.get(choice)
    return "-" if share is None else f"{100 * share.weights:.0f} / {100 * share.macs:.0f}"


FORMS = Forms(
    "the table",
    {".csv": Result.to_csv, ".json": Result.to_json, ".md": markdown},
    plot_pareto.draw,
)
check_path, save = FORMS.check_path, FORMS.save
