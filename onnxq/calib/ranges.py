"""Ranges: per tensor the range that a method read off the statistics, and what it costs.

Saved as `ranges.json`, made to be read and diffed: a line per tensor, sorted by name, every number
written so that it reads back exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnxq.calib.histogram import Histogram, merge
from onnxq.calib.max import Max
from onnxq.calib.methods import Method
from onnxq.calib.quant_error import expected_error, limit_of, mean_square, sat_ratio
from onnxq.calib.stats import Stats
from onnxq.errors import DataError, PlanError
from onnxq.files import write_text
from onnxq.json_text import to_json
from onnxq.numerics import Limit, has_scale, magnitude_of
from onnxq.progress import steps
from onnxq.saved import FileForm
from onnxq.spec import QuantSpec
from onnxq.table import Table, page

FORM = FileForm(
    "onnxq.ranges", 1, DataError,
    absent="no ranges at '{path}'; 'onnxq calibrate -o ranges.json' writes them",
    other="'{path}' holds no ranges this version reads: {found}",
    broken="'{path}' is not a ranges file or is cut short ({class}: {why}); "
    "'onnxq calibrate -o ranges.json' writes one",
    model="the ranges were observed on model {own}, this one is {this}; "
    "run 'onnxq calibrate' on this model",
)  # fmt: skip


@dataclass(frozen=True)
class Range:
    """The range of one tensor.

    amax: finite, not negative; 0 where the tensor was all zeros.
    method: repr of the method that chose it.
    sat_ratio: share of the tensor's values with |x| > amax, or outside low and high; NaN where the
    range is out of another tool's file, and nobody counted.
    expected_error: mean squared quantization error of the tensor's values; NaN likewise, and for
    FP4, whose error depends on the values beside each.
    low, high: its ends, at most and at least 0, where it was read for an asymmetric type; amax is
    then the larger magnitude.
    """

    amax: float
    method: str
    sat_ratio: float
    expected_error: float
    low: float | None = None
    high: float | None = None

    @property
    def limit(self) -> Limit:
        """What the numbers are made from: (low, high) where there are such, else amax."""
        return self.amax if self.low is None or self.high is None else (self.low, self.high)

    def entry(self) -> dict[str, Any]:
        """Its row in `ranges.json`: without the ends that it does not have."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Ranges:
    """Tensor name -> Range, sorted by name, and the hash of the model they were observed on."""

    model: str
    tensors: Mapping[str, Range]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", dict(sorted(self.tensors.items())))

    def __repr__(self) -> str:
        methods = ", ".join(sorted({r.method for r in self.tensors.values()})) or "no method"
        clipped = max((r.sat_ratio for r in self.tensors.values() if r.sat_ratio >= 0), default=0.0)
        return (
            f"Ranges({len(self.tensors)} tensors by {methods}, up to {100 * clipped:.2g} % "
            f"clipped, model {self.model[:12]})"
        )

    def _repr_html_(self) -> str:
        return page(f"Ranges of {len(self.tensors)} tensors", self.table())

    def table(self) -> Table:
        """The range of each tensor, those that clip most first."""
        rows = [
            (name, r.amax, f"{100 * r.sat_ratio:.3g}", r.expected_error, r.method)
            for name, r in sorted(self.tensors.items(), key=lambda item: -item[1].sat_ratio)
        ]
        return Table("Ranges", ("tensor", "amax", "clipped %", "expected error", "method"), rows)

    def __getitem__(self, tensor: str) -> Range:
        """The range of a tensor; raises DataError where there is none."""
        if tensor not in self.tensors:
            raise DataError(
                f"no range for tensor '{tensor}'; run 'onnxq calibrate' on this model and plan"
            )
        return self.tensors[tensor]

    @property
    def amax(self) -> dict[str, float]:
        """Tensor name -> amax."""
        return {name: r.amax for name, r in self.tensors.items()}

    @property
    def limits(self) -> dict[str, Limit]:
        """Tensor name -> amax, or (low, high): what `insert_qdq` takes."""
        return {name: r.limit for name, r in self.tensors.items()}

    def check_model(self, model: str) -> None:
        """Raises DataError unless the ranges were observed on the model with this hash."""
        FORM.check_model(self.model, model)

    def save(self, path: str | Path) -> None:
        """Write `ranges.json`, whole or not at all."""
        write_text(Path(path), self.to_json())

    def to_json(self) -> str:
        """The text of `ranges.json`."""
        head = {**FORM.head(), "model": self.model}
        lines = [f"  {to_json(key)}: {to_json(value)}," for key, value in head.items()]
        rows = [
            f"    {to_json(name)}: {to_json(r.entry(), indent=None)}"
            for name, r in self.tensors.items()
        ]
        tensors = "{\n" + ",\n".join(rows) + "\n  }" if rows else "{}"
        return "\n".join(["{", *lines, f'  "tensors": {tensors}', "}", ""])

    @staticmethod
    def load(path: str | Path) -> Ranges:
        """Read `ranges.json`; raises DataError for a file that is not one of this version."""
        return FORM.load(path, lambda document: _from_document(document, Path(path)))


def read_ranges(
    stats: Stats,
    method: Method,
    specs: QuantSpec | Mapping[str, QuantSpec],
    groups: Iterable[tuple[str, ...]] = (),
    own: Mapping[str, Method] | None = None,
) -> Ranges:
    """The ranges that `method` reads off `stats`, for one spec or for each tensor's own.

    A tensor that `specs` does not name gets that of its group, or is read for INT8. A type with a
    fixed scale has a fixed range, and FP4 the largest value. The tensors of a group share one
    range, read off all their values together; `sat_ratio` and `expected_error` stay each tensor's
    own. `own` names the tensors, in no group, that have a method of their own. Raises OnnxqError,
    naming the tensor, for statistics with infinite or NaN values, and PlanError for a tensor in two
    groups.
    """
    partners: dict[str, tuple[str, ...]] = {}
    for group in groups:
        for name in group:
            if partners.setdefault(name, group) != group:
                raise PlanError(f"tensor '{name}' is in two groups; join them into one")
    found: dict[str, Range] = {}
    limits: dict[tuple[str, ...], Limit] = {}
    for name, histogram in steps("tensors", stats.histograms.items(), len(stats.histograms)):
        chosen = (own or {}).get(name, method)
        group = partners.get(name, (name,))
        spec = _spec_of(group, specs)
        chosen = Max() if spec.dtype == "fp4" else chosen  # its blocks have ranges of their own
        if group not in limits:
            for member in group:
                stats[member].check_finite(f"tensor '{member}': ")
            limits[group] = _limit(merge(*(stats[member] for member in group)), chosen, spec)
        found[name] = range_of(histogram, limits[group], spec, repr(chosen))
    return Ranges(stats.model, found)


def range_of(histogram: Histogram, limit: Limit, spec: QuantSpec, method: str) -> Range:
    """What range `limit`, chosen by `method`, does to the counted values."""
    low, high = limit if isinstance(limit, tuple) else (None, None)
    error = math.nan if spec.dtype == "fp4" else expected_error(histogram, limit, spec)
    return Range(magnitude_of(limit), method, sat_ratio(histogram, limit), error, low, high)


def errors_on(
    stats: Stats,
    found: Sequence[Ranges],
    specs: Mapping[str, QuantSpec],
    groups: Iterable[tuple[str, ...]] = (),
) -> dict[str, list[float]]:
    """The mean squared error of each tensor's values with each of several ranges for it, which
    were read, as `read_ranges` does, off other statistics; of FP4 all alike. With a range of 0 all
    is lost."""
    partners = {name: group for group in groups for name in group}
    errors: dict[str, list[float]] = {}
    for name, histogram in stats.histograms.items():
        spec = _spec_of(partners.get(name, (name,)), specs)
        if spec.dtype == "fp4":
            errors[name] = [0.0] * len(found)
            continue
        errors[name] = [
            expected_error(histogram, ranges[name].limit, spec)
            if has_scale(ranges[name].amax, spec).all()
            else mean_square(histogram)
            for ranges in found
        ]
    return errors


def _limit(histogram: Histogram, method: Method, spec: QuantSpec) -> Limit:
    if spec.row.fixed_scale is not None:
        return spec.row.qmax * spec.row.fixed_scale
    limit = method(histogram, spec)
    return limit if isinstance(limit, tuple) else limit_of(histogram, limit, spec)


def _spec_of(group: tuple[str, ...], specs: QuantSpec | Mapping[str, QuantSpec]) -> QuantSpec:
    if isinstance(specs, QuantSpec):
        return specs
    return next((specs[name] for name in group if name in specs), QuantSpec())


def _from_document(document: Any, path: Path) -> Ranges:
    tensors = {name: _from_entry(entry) for name, entry in document["tensors"].items()}
    for name, r in tensors.items():
        if not 0 <= r.amax < float("inf"):
            raise DataError(
                f"'{path}' gives tensor '{name}' the range {r.amax}; "
                "an amax is finite and not negative"
            )
        if not -float("inf") < (r.low or 0.0) <= 0 <= (r.high or 0.0) < float("inf"):
            raise DataError(
                f"'{path}' gives tensor '{name}' the range {r.low} to {r.high}; "
                "its ends are finite and have 0 between them"
            )
    return Ranges(document["model"], tensors)


def _from_entry(entry: Mapping[str, Any]) -> Range:
    uncounted = {key: float(entry[key]) for key in ("sat_ratio", "expected_error")}  # may be "nan"
    return Range(**{**entry, **uncounted})
