"""A tensor's histogram with the range of every method drawn in, over what each range costs.

Above: how many values there are, in bins of equal width, with the ends of each range. Below: the
expected SQNR of quantizing them against amax, with every method on that curve.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from onnxq.calib.histogram import Float64, Histogram
from onnxq.calib.methods import Auto, parse_method
from onnxq.calib.quant_error import expected_errors, expected_sqnr, mean_square
from onnxq.calib.ranges import Range, read_ranges
from onnxq.calib.stats import Stats
from onnxq.errors import DataError, PlanError
from onnxq.report import figure as figures
from onnxq.report.figure import BLUE, GREEN, GREY, ORANGE, PINK, RED, Axis, Figure, Look
from onnxq.spec import QuantSpec

METHODS = ("max", "percentile", "mse", "entropy")
BINS, POINTS = 200, 160
NARROW = 5.0  # inches
OCTAVES = 4  # of amax that the curve spans at least
COLOURS = (RED, BLUE, GREEN, ORANGE, PINK, "black")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = "osD^vPX"  # cycles of other lengths: no two of many lines look the same


@dataclass(frozen=True)
class Mark:
    """A range to draw in: who chose it, and what it costs (expected SQNR in dB)."""

    name: str
    range: Range
    sqnr_db: float


def check_tensor(stats: Stats, tensor: str) -> None:
    """Raises DataError, with the nearest names, for a tensor that was not observed."""
    if tensor not in stats.histograms:
        near = difflib.get_close_matches(tensor, list(stats.histograms), n=3, cutoff=0.0)
        listed = ", ".join(map(repr, near)) or "none: the statistics are empty"
        raise DataError(f"no statistics for tensor '{tensor}'; the nearest names are {listed}")


def methods_for(spec: QuantSpec) -> list[str]:
    """The methods that can read a range for a type."""
    return [name for name in METHODS if not (name == "entropy" and spec.dtype == "fp8")]


def marks_of(stats: Stats, tensor: str, methods: Sequence[str], spec: QuantSpec) -> list[Mark]:
    """What each method reads off a tensor's histogram, in the order given: a method then has the
    same colour in the plots of all tensors.

    Raises PlanError for a method that is unknown or does not fit the type.
    """
    alone = Stats(stats.model, {tensor: stats[tensor]}, stats.samples)
    found = []
    for text in methods:
        method = parse_method(text)
        if isinstance(method, Auto):
            raise PlanError("method 'auto' compares whole models and reads no histogram; leave it "
                            "out here")  # fmt: skip
        found.append(mark(stats, tensor, text, read_ranges(alone, method, spec)[tensor], spec))
    return found


def mark(stats: Stats, tensor: str, name: str, chosen: Range, spec: QuantSpec) -> Mark:
    """A range under its name, with its expected SQNR."""
    return Mark(name, chosen, expected_sqnr(stats[tensor], chosen.limit, spec))


def draw(
    stats: Stats,
    tensor: str,
    marks: Sequence[Mark],
    spec: QuantSpec,
    look: Look | None = None,
) -> Figure:
    """The figure. Raises DataError for a tensor without values, or with none but zero."""
    look = look or Look()
    histogram = stats[tensor]
    if not histogram.amax:
        seen = "is all zeros" if histogram.count else "has no values"
        raise DataError(f"tensor '{tensor}' {seen}, so there is nothing to draw; name another")
    histogram.check_finite(f"tensor '{tensor}': ")
    with figures.styled():
        figure = figures.figure_of(look.width, 1.9 + 0.24 * look.width + 0.16 * len(marks))
        upper, lower = figure.subplots(2, 1, height_ratios=(3, 2))
        _draw_counts(upper, histogram)
        _draw_curve(lower, histogram, marks, spec)
        lines = list(zip(marks, cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False))
        for one, colour, dash, marker in lines:
            for end in _ends(one.range, histogram):
                upper.axvline(end, color=colour, linestyle=dash)
            lower.plot(one.range.amax, one.sqnr_db, color=colour, linestyle=dash, marker=marker,
                       markersize=5, label=_said(one, brief=look.width < NARROW))  # fmt: skip
        figures.entitle(figure, tensor, look)
        figure.align_ylabels()
        if marks:
            figure.legend(handles=lower.get_lines()[1:], loc="outside lower left", handlelength=3.5)
    return figure


def _said(one: Mark, brief: bool) -> str:
    chosen = one.range
    ends = f"amax {chosen.amax:.4g}"
    if chosen.low is not None and chosen.high is not None:
        ends = f"{chosen.low:.4g} to {chosen.high:.4g}"
    cost = f"{one.sqnr_db:.1f} dB"
    if not brief:
        cost = f"expected error {chosen.expected_error:.2g} ({cost})"
    return f"{one.name}: {ends}, {cost}, {100 * chosen.sat_ratio:.2g} % clipped"


def _ends(chosen: Range, histogram: Histogram) -> list[float]:
    """Where the range ends, on the sides that hold values."""
    if chosen.low is not None and chosen.high is not None:
        return [chosen.low, chosen.high]
    sides = ((-chosen.amax, histogram.min < 0), (chosen.amax, histogram.max > 0))
    return [end for end, there in sides if there]


def _draw_counts(axis: Axis, histogram: Histogram) -> None:
    edges = np.linspace(min(histogram.min, 0.0), max(histogram.max, 0.0), BINS + 1)
    axis.stairs(counts_in(histogram, edges), edges, fill=True, color="0.7")
    axis.set_yscale("log")
    axis.set_ylim(bottom=0.5)
    axis.yaxis.set_major_formatter(lambda count, _: figures.count_label(count))
    axis.tick_params(axis="y", which="minor", length=0)
    zeros = 100 * histogram.zeros / histogram.count
    axis.set_xlabel(f"value ({histogram.count:,} counted, {zeros:.3g} % are zero)")
    axis.set_ylabel("values in a bin")


def _draw_curve(axis: Axis, histogram: Histogram, marks: Sequence[Mark], spec: QuantSpec) -> None:
    top = max(histogram.amax, *(m.range.amax for m in marks), 0.0)
    least = min([top / 2**OCTAVES, *(m.range.amax / 2 for m in marks if m.range.amax)])
    amaxes = np.geomspace(least, top, POINTS)
    noise = expected_errors(histogram, amaxes, spec)
    some = noise > 0  # what costs nothing has no place on a scale of dB
    axis.plot(amaxes[some], 10 * np.log10(mean_square(histogram) / noise[some]), color=GREY)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:.4g}")
    axis.set_xlabel(f"amax ({spec.row.label})")
    axis.set_ylabel("expected\nSQNR, dB")


def counts_in(histogram: Histogram, edges: Float64) -> Float64:
    """How many values lie between each two of the ascending `edges`, which hold them all: values
    are spread evenly in the histogram's own bins, and zeros are where they are."""
    below, above = histogram.negative(), histogram.nonnegative()
    lows = np.concatenate([-below.high[::-1], above.low])
    highs = np.concatenate([-below.low[::-1], above.high])
    counts = np.concatenate([below.counts[::-1], above.counts])
    point = highs <= lows
    found = np.zeros(edges.size - 1)
    at = np.clip(np.searchsorted(edges, lows[point], side="right") - 1, 0, found.size - 1)
    np.add.at(found, at, counts[point])
    after = np.cumsum(counts[~point], dtype=np.float64)
    if after.size:
        before = np.concatenate([[0.0], after[:-1]])
        values = np.stack([lows[~point], highs[~point]], 1).reshape(-1)
        found += np.diff(np.interp(edges, values, np.stack([before, after], 1).reshape(-1)))
    return found
