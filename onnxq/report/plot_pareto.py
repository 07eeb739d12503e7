"""Cost against score of the plans that a search measured, the front joined by a line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxq.errors import PlanError
from onnxq.judge.units import label
from onnxq.report import figure as figures
from onnxq.report.figure import BLUE, GREY, ORANGE, Axis, Figure, Look
from onnxq.search.result import Result, Trial


def draw(result: Result, look: Look | None = None) -> Figure:
    """The figure. Raises PlanError where no plan has a finite score."""
    look = look or Look()
    finite = [t for t in result.trials if math.isfinite(t.score)]
    if not finite:
        raise PlanError("no plan of this search has a finite score, so there is nothing to draw")
    with figures.styled():
        figure = figures.figure_of(look.width, 1.4 + 0.36 * look.width)
        axis = figure.subplots()
        front = [t for t in finite if t.front]
        _draw_points(axis, [t for t in finite if not t.front], GREY, "none", "off the front")
        _draw_points(axis, front, BLUE, "-", "front: none cheaper is as good")
        if missing := [t for t in finite if not t.holds]:
            axis.plot(*_places(missing), "o", color="white", markersize=3.2, zorder=2.6,
                      markeredgecolor="black", label="misses the budget")  # fmt: skip
        _draw_counts(axis, front, look)
        if (chosen := result.chosen) in finite and chosen is not None:
            star = {"marker": "*", "s": 130, "color": ORANGE, "edgecolor": "black", "zorder": 3}
            axis.scatter(chosen.cost, chosen.score, linewidth=0.6, label="chosen", **star)
        if math.isfinite(result.reference):
            axis.axhline(result.reference, color="black", linestyle=":", label="float model")
        axis.set_xlabel(f"cost ({result.cost}), float = 1")
        axis.set_ylabel(label(result.metric))
        axis.margins(0.08)
        figures.entitle(figure, f"Plans for a {result.budget}, {result.samples} samples", look)
        figure.legend(loc="outside lower left", ncols=6 if look.width >= 5 else 2)
    return figure


def _draw_points(axis: Axis, trials: Sequence[Trial], colour: str, line: str, label: str) -> None:
    """Trials with their standard errors."""
    for trial in trials:
        if trial.stderr:
            axis.errorbar(trial.cost, trial.score, trial.stderr, color=colour, elinewidth=0.8)
    if trials:
        axis.plot(*_places(trials), "o", color=colour, linestyle=line, markersize=5, zorder=2.5,
                  label=label)  # fmt: skip


def _places(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
    return [t.cost for t in trials], [t.score for t in trials]


def _draw_counts(axis: Axis, front: Sequence[Trial], look: Look) -> None:
    """How many nodes stay float, beside the points that leave room for it."""
    spread = max((t.cost for t in front), default=0.0) - min((t.cost for t in front), default=0.0)
    room = spread * 0.6 / look.width
    last = -math.inf
    for trial in front:
        if trial.cost - last < room:
            continue
        last = trial.cost
        axis.annotate(f"{len(trial.floats)} float", (trial.cost, trial.score), xytext=(3, -9),
                      textcoords="offset points", fontsize=6, color=GREY)  # fmt: skip
