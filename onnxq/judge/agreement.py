"""How far one output, or a part of one, is from its reference: sums over samples, read at the end.

    SQNR   = 10 log10(sum(ref^2) / sum((ref - test)^2))   in dB
    cosine = sum(ref * test) / sqrt(sum(ref^2) * sum(test^2))

Sums are added sample by sample. Places where both models write the same infinity, or both NaN, such
as masked logits, say nothing of the distance: they are left out and counted. Where one model alone
writes one, every figure is NaN.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import ModelError
from onnxq.judge.gaps import finite_pairs, powers
from onnxq.numerics import decibels
from onnxq.table import Table, page

CEILING = 100.0  # dB: beyond it nobody can tell two apart


@dataclass(frozen=True)
class Agreement:
    """Sums over the values of one output; `+` adds samples up.

    count: of values compared. mean_abs_worst: the mean absolute difference of the sample where it
    is largest. alike: values left out, as both models have the same infinity or NaN there. apart:
    values where one model alone does. each: SQNR of each sample, in dB. places: where classes
    compete, as rows of them; tops: of these, where the largest is the same.
    """

    count: int = 0
    ref_power: float = 0.0
    test_power: float = 0.0
    noise: float = 0.0
    dot: float = 0.0
    abs_sum: float = 0.0
    abs_max: float = 0.0
    mean_abs_worst: float = 0.0
    alike: int = 0
    apart: int = 0
    each: tuple[float, ...] = field(default=(), compare=False)
    places: int = 0
    tops: int = 0

    def __repr__(self) -> str:
        figures = f"SQNR {self.sqnr_db:.2f} dB, cosine {self.cosine:.5f}"
        return f"Agreement({figures}, max |diff| {self.abs_max:.4g}, {self.count} values)"

    def _repr_html_(self) -> str:
        return page("", table_of({"": self}))

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.count + other.count,
            self.ref_power + other.ref_power,
            self.test_power + other.test_power,
            self.noise + other.noise,
            self.dot + other.dot,
            self.abs_sum + other.abs_sum,
            float(np.maximum(self.abs_max, other.abs_max)),  # unlike max(), keeps NaN
            float(np.maximum(self.mean_abs_worst, other.mean_abs_worst)),
            self.alike + other.alike,
            self.apart + other.apart,
            self.each + other.each,
            self.places + other.places,
            self.tops + other.tops,
        )

    @property
    def sqnr_db(self) -> float:
        """SQNR in dB; inf where the outputs are equal, -inf where the reference is all zero."""
        return decibels(self.ref_power, self.noise)

    @property
    def mean_db(self) -> float:
        """Mean of the samples' SQNR in dB; NaN without samples that have one."""
        return statistics.fmean(told) if (told := self._told) else math.nan

    @property
    def spread_db(self) -> float:
        """Standard deviation of the samples' SQNR in dB; NaN for fewer than two."""
        told = self._told
        if len(told) < 2:
            return math.nan
        return math.nan if any(map(math.isnan, told)) else statistics.stdev(told)

    @property
    def least_db(self) -> float:
        """SQNR in dB of the worst sample; NaN without samples that have one."""
        told = self._told
        return math.nan if not told or any(map(math.isnan, told)) else min(told)

    @property
    def _told(self) -> list[float]:
        """The samples' SQNR, but of those whose reference is all zero: these have none."""
        return [min(db, CEILING) for db in self.each if db != -math.inf]

    @property
    def cosine(self) -> float:
        """Cosine similarity of all values; 1 where both are all zero."""
        norm = math.sqrt(self.ref_power) * math.sqrt(self.test_power)
        return self.dot / norm if norm else float(self.ref_power == self.test_power)

    @property
    def mean_abs(self) -> float:
        """Mean absolute difference."""
        return self.abs_sum / self.count if self.count else 0.0

    def as_dict(self) -> dict[str, float]:
        """The four figures, rounded for a report."""
        return {
            "sqnr_db": round(self.sqnr_db, 3),
            "cosine": round(self.cosine, 6),
            "max_abs": float(f"{self.abs_max:.6g}"),
            "mean_abs": float(f"{self.mean_abs:.6g}"),
        }

    def with_spread(self) -> dict[str, float]:
        """The same, with how the samples' SQNR scatters."""
        spread = {"mean_db": self.mean_db, "spread_db": self.spread_db, "least_db": self.least_db}
        return self.as_dict() | {name: round(value, 3) for name, value in spread.items()}


def agreement(ref: Array, test: Array) -> Agreement:
    """Agreement of one array with its reference.

    Every figure is NaN where one of the two alone is NaN or infinite, or the other infinity. Raises
    ModelError for two shapes.
    """
    if ref.shape != test.shape:
        raise ModelError(f"shape {ref.shape} in one model and {test.shape} in the other; "
                         "compare a model with its own quantized form")  # fmt: skip
    r, t, alike, apart = finite_pairs(ref, test)
    if apart:
        nan = math.nan
        return Agreement(r.size + apart, nan, nan, nan, nan, nan, nan, nan, alike, apart, (nan,))
    gap = np.abs(r - t)
    signal, noise = powers(r, gap)
    return Agreement(
        r.size,
        signal,
        float(t @ t),
        noise,
        float(r @ t),
        float(gap.sum()),
        float(gap.max(initial=0.0)),
        float(gap.mean()) if gap.size else 0.0,
        alike,
        each=(decibels(signal, noise),) if r.size else (),
    )


def table_of(found: Mapping[str, Agreement]) -> Table:
    """The figures of each output, or part of one."""
    rows = [
        (name, f"{a.sqnr_db:.2f}", f"{a.cosine:.5f}", a.abs_max, a.mean_abs)
        for name, a in found.items()
    ]
    columns = ("output", "SQNR, dB", "cosine", "max |diff|", "mean |diff|")
    return Table("Agreement", columns, rows)
