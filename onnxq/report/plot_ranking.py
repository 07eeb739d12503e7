"""A sensitivity ranking as bars: the share of the damage of each unit, the worst on top, and beside
them the score with the worst left float where that curve was measured."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxq.errors import PlanError
from onnxq.escaping import from_csv_cell
from onnxq.judge.units import label
from onnxq.report import figure as figures
from onnxq.report.figure import BLUE, GREY, ORANGE, Axis, Figure, Look
from onnxq.sensitivity.ranking import Ranking

SHOWN = 30
ROW = 0.17  # inches


@dataclass(frozen=True)
class Bar:
    """One unit: its share of the damage in %, the standard error of that (0: not known), and its
    score."""

    name: str
    share: float
    error: float
    score: float


@dataclass(frozen=True)
class BarChart:
    """What is drawn: every unit, worst first, and (units left float, score) where measured."""

    title: str
    metric: str
    bars: tuple[Bar, ...]
    curve: tuple[tuple[int, float], ...] = ()


def bars_of(ranking: Ranking) -> BarChart:
    """The bars of a ranking."""
    done = "quantized alone" if ranking.mode == "one-on" else "alone left float"
    where = "" if ranking.at == "outputs" else " at the node"
    bars = tuple(
        _bar(row.name, row.share, row.overall.damage, row.overall.stderr, row.overall.score)
        for row in ranking.rows
    )
    return BarChart(
        f"Each {ranking.granularity} {done}{where}",
        label(ranking.metric),
        bars,
        ranking.curve,
    )


def read(path: Path) -> BarChart:
    """The bars of a ranking that `onnxq sensitivity` wrote, as .json or .csv.

    A .csv names neither its metric nor its mode and has no curve. Raises PlanError for a file that
    is no ranking.
    """
    if path.suffix != ".csv":
        return bars_of(Ranking.load(path))
    if not path.is_file():
        raise PlanError(f"no ranking at '{path}'; 'onnxq sensitivity -o ranking.csv' makes one")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [_from_csv(row) for row in csv.DictReader(file)]
    except (KeyError, ValueError, TypeError, csv.Error) as e:
        raise PlanError(
            f"'{path}' is not a ranking that can be read ({type(e).__name__}: {e}); "
            "'onnxq sensitivity -o ranking.csv' makes one"
        ) from e
    return BarChart("Sensitivity", "score", tuple(rows))


def _from_csv(row: Mapping[str, str]) -> Bar:
    stderr = float(row["stderr"]) if row["stderr"] else None
    share, damage, score = (float(row[name]) for name in ("share", "damage", "score"))
    return _bar(from_csv_cell(row["node"]), share, damage, stderr, score)


def _bar(name: str, share: float, damage: float, stderr: float | None, score: float) -> Bar:
    known = stderr is not None and damage > 0 and math.isfinite(damage)
    error = 100 * share * stderr / damage if known and stderr is not None else 0.0
    return Bar(name, 100 * share, error, score)


def draw(bars: BarChart, top: int = SHOWN, look: Look | None = None) -> Figure:
    """The figure, of the `top` worst units. Raises PlanError for a ranking of nothing."""
    look = look or Look()
    shown = bars.bars[:top]
    if not shown:
        raise PlanError("the ranking is empty, so there is nothing to draw; rank more nodes")
    with figures.styled():
        beside = bool(bars.curve) and look.width >= 5
        below = bool(bars.curve) and not beside
        height = 0.9 + ROW * len(shown)
        figure = figures.figure_of(look.width, max(height, 2.2) + (1.8 if below else 0.0))
        if beside:
            first, second = figure.subplots(1, 2, width_ratios=(2, 1))
        elif below:
            first, second = figure.subplots(2, 1, height_ratios=(height, 1.8))
        else:
            first, second = figure.subplots(), None
        _draw_bars(first, shown, bars.metric, look)
        if second is not None:
            _draw_curve(second, bars)
        all_of_them = len(shown) == len(bars.bars)
        some = "" if all_of_them else f": the worst {len(shown)} of {len(bars.bars)}"
        figures.entitle(figure, bars.title + some, look)
    return figure


def _draw_bars(axis: Axis, shown: Sequence[Bar], metric: str, look: Look) -> None:
    length = int(14 + 4 * look.width)  # of a name, so that half the width is left for bars
    places = range(len(shown))
    errors = [bar.error for bar in shown]
    axis.barh(places, [bar.share for bar in shown], xerr=errors if any(errors) else None,
              color=BLUE, height=0.7, error_kw={"elinewidth": 0.8, "ecolor": "black"})  # fmt: skip
    axis.set_yticks(places, [figures.shortened(bar.name, length) for bar in shown])
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    for place, bar in zip(places, shown, strict=True):
        axis.annotate(f"{bar.score:.4g}", (bar.share + bar.error, place), xytext=(3, 0),
                      textcoords="offset points", va="center", fontsize=6, color=GREY)  # fmt: skip
    axis.margins(x=0.12)
    axis.set_xlim(left=0)
    axis.set_xlabel(f"share of the damage, %\n(beside the bars: {metric})")


def _draw_curve(axis: Axis, bars: BarChart) -> None:
    known = [(count, score) for count, score in bars.curve if math.isfinite(score)]
    axis.plot(*zip(*known, strict=True) if known else ([], []), color=ORANGE, marker="o",
              markersize=4)  # fmt: skip
    axis.set_xlabel("worst units left float")
    axis.set_ylabel(bars.metric)
