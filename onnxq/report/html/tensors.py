"""The tensors of the page: the range of each, its histogram, what other methods read off it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.histogram import Histogram
from onnxq.calib.methods import Auto, Method, method_name, parse_method
from onnxq.calib.quant_error import mean_square
from onnxq.calib.ranges import Range, read_ranges
from onnxq.calib.stats import Stats
from onnxq.inspect.tensors import QuantizedTensor
from onnxq.numerics import decibels
from onnxq.report.html.evidence import Evidence
from onnxq.report.html.numbers import brief, finite
from onnxq.report.plot_histogram import METHODS
from onnxq.spec import DTYPES, QuantSpec

BARS = 96  # of a histogram as it is drawn
TYPES = {row.label: name for name, row in reversed(DTYPES.items())}  # as stored most plainly


@dataclass(frozen=True)
class Known:
    """The tensors with a range or a histogram.

    names: in graph order. ranges: name -> the range in use. specs: name -> how it is quantized.
    same_values: tensor that Q reads -> the name whose values it holds, where that is another.
    sqnr: place in `names` -> expected SQNR in dB.
    """

    names: tuple[str, ...]
    ranges: Mapping[str, Range]
    specs: Mapping[str, QuantSpec]
    same_values: Mapping[str, str]
    sqnr: Mapping[int, float]

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Name -> its place in `names`."""
        return {name: i for i, name in enumerate(self.names)}

    def place(self, grid: QuantizedTensor) -> int | None:
        """The place in `names` of a quantized tensor; None where nothing is known of it."""
        return self.places.get(self.same_values.get(grid.name, grid.name))


def known_tensors(evidence: Evidence) -> Known:
    """What is known of the tensors that the graph quantizes, and of any other with a range."""
    reasons, reading = evidence.reasons, evidence.reading
    ranges = {name: Range(**entry) for name, entry in reasons.ranges.items()}
    counted = evidence.stats.histograms if evidence.stats else {}
    specs: dict[str, QuantSpec] = {}
    for grid in reading.tensors:
        if grid.kind == "activation":
            name = reasons.same_values.get(grid.name, grid.name)
            specs.setdefault(name, QuantSpec(TYPES.get(grid.label, "int8")))
    order = {t.name: -1 for t in evidence.graph.inputs}
    order |= {name: i for i, node in enumerate(reading.nodes) for name in node.outputs}
    either = {**ranges, **counted}
    names = tuple(sorted(either, key=lambda n: (order.get(n, len(order)), n)))
    sqnr = {i: _sqnr(counted.get(n), ranges.get(n)) for i, n in enumerate(names)}
    known = {i: s for i, s in sqnr.items() if s is not None}
    return Known(names, ranges, specs, reasons.same_values, known)


def _sqnr(histogram: Histogram | None, found: Range | None) -> float | None:
    if histogram is None or found is None or histogram.nonfinite:
        return None
    if math.isnan(found.expected_error):  # of FP4, or nobody counted
        return None
    return decibels(mean_square(histogram), found.expected_error)


def tensor_rows(evidence: Evidence, known: Known) -> list[dict[str, Any]]:
    """For every known tensor its range; with statistics its histogram and every reading of it."""
    counted = evidence.stats.histograms if evidence.stats else {}
    readings = _readings(evidence.stats, known) if evidence.stats else {}
    rows = []
    for i, name in enumerate(known.names):
        row: dict[str, Any] = {"name": name}
        if name in known.specs:
            row["type"] = known.specs[name].row.label
        if name in known.ranges:
            row["used"] = _entry(known.ranges[name], known.sqnr.get(i))
        histogram = counted.get(name)
        if histogram is not None and histogram.count and not histogram.nonfinite:
            row["histogram"] = curve(histogram)
            row["readings"] = readings.get(name, [])
        rows.append(finite(row))
    return rows


def _entry(found: Range, sqnr: float | None) -> dict[str, Any]:
    named = {**found.entry(), "method": method_name(found.method), "sqnr": sqnr}
    return {key: value for key, value in named.items() if value is not None}


def _readings(stats: Stats, known: Known) -> dict[str, list[dict[str, Any]]]:
    """Each tensor's range by every method, of its own values alone."""
    sound = {n: h for n, h in stats.histograms.items() if h.count and not h.nonfinite}
    usable = replace(stats, histograms=sound)
    power = {name: mean_square(h) for name, h in sound.items()}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sound}
    for text in METHODS:
        method = _method(text)
        for name, r in read_ranges(usable, method, known.specs).tensors.items():
            entry = _entry(r, decibels(power[name], r.expected_error))
            found[name].append({**entry, "method": text})
    return found


def _method(text: str) -> Method:
    parsed = parse_method(text)
    assert not isinstance(parsed, Auto)
    return parsed


def curve(histogram: Histogram) -> dict[str, Any]:
    """The histogram in BARS bars of equal width from its minimum to its maximum: low, high, counts.

    A bin that lies over several bars is shared out evenly; the counts add up to all values.
    """
    low, high = histogram.min, histogram.max
    counts = np.zeros(BARS)
    for bins, sign in ((histogram.negative(), -1.0), (histogram.nonnegative(), 1.0)):
        ends = np.sort(np.stack([sign * bins.low, sign * bins.high]), axis=0)
        counts += _shared_out(ends, bins.counts, low, high)
    return {"low": brief(low), "high": brief(high), "counts": [brief(c) for c in counts]}


def _shared_out(ends: Array, counts: Array, low: float, high: float) -> Array:
    """Counts of bins from ends[0] to ends[1] over BARS bars from low to high."""
    if high <= low:
        first = np.zeros(BARS)
        first[BARS // 2] = counts.sum()
        return first
    a, b = np.clip((ends - low) / (high - low) * BARS, 0, BARS)
    edges = np.arange(BARS + 1)
    width = b - a
    thin = width <= 1e-9  # a bin of no width is a step
    total = np.zeros(BARS)
    place = np.minimum(a[thin].astype(int), BARS - 1)
    np.add.at(total, place, counts[thin])
    order = np.argsort(a[~thin])
    a, b, counts = a[~thin][order], b[~thin][order], counts[~thin][order]
    if a.size:
        upto = np.cumsum(counts)
        ends, below = np.stack([a, b], 1).ravel(), np.stack([upto - counts, upto], 1).ravel()
        total += np.diff(np.interp(edges, ends, below))
    return total
