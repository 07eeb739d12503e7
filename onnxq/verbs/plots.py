"""Single plots, from saved values: PNG, SVG or PDF by the suffix; equal input, equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxq.report.figure import Look


def plot_histogram(
    stats: Path,
    tensor: str,
    out: Path,
    methods: Sequence[str] = (),
    ranges: Path | None = None,
    dtype: str = "int8",
    look: Look | None = None,
) -> None:
    """Draw the values of a tensor, and what the range of each method costs.

    ranges: a saved range to draw too. Raises OnnxqError for a plot that cannot be written.
    """
    from onnxq.calib.ranges import Ranges
    from onnxq.calib.stats import Stats
    from onnxq.report import figure, plot_histogram
    from onnxq.spec import QuantSpec

    figure.check_path(out)
    spec, counted = QuantSpec(dtype), Stats.load(stats)
    plot_histogram.check_tensor(counted, tensor)
    methods = methods or plot_histogram.methods_for(spec)
    marks = plot_histogram.marks_of(counted, tensor, methods, spec)
    if ranges is not None:
        saved = Ranges.load(ranges)
        saved.check_model(counted.model)
        marks.append(plot_histogram.mark(counted, tensor, ranges.name, saved[tensor], spec))
    figure.write(plot_histogram.draw(counted, tensor, marks, spec, look or figure.Look()), out)


def plot_ranking(ranking: Path, out: Path, top: int = 30, look: Look | None = None) -> None:
    """Draw the bars of a saved ranking, the worst `top`."""
    from onnxq.report import figure, plot_ranking

    figure.check_path(out)
    figure.write(plot_ranking.draw(plot_ranking.read(ranking), top, look), out)


def plot_pareto(result: Path, out: Path, look: Look | None = None) -> None:
    """Draw cost against score of a saved search."""
    from onnxq.report import figure, plot_pareto
    from onnxq.search.result import Result

    figure.check_path(out)
    figure.write(plot_pareto.draw(Result.load(result), look), out)
