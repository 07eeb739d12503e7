"""Histograms whose bin number is the upper half of the float itself.

    bin(x) = bits of float32(x) >> 16        (sign, 8 exponent bits, 7 mantissa bits: 65,536 bins)

There is no range to guess and nothing to rescale, so merging is adding and is exact. A bin spans
1/128 of an octave, about as wide near amax as an INT8 step: errors over a bin are integrated, not
sampled (see `mse`). Values below 2**-133, the negative zero among them, count as zero.

An `Accumulator` counts; a `Histogram` is the frozen, sparse value that is merged, saved and read.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import reduce
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from onnxq.arrays import Array
from onnxq.errors import DataError, OnnxqError

try:
    from onnxq.calib import _binning  # type: ignore[attr-defined]
except ImportError:  # a wheel without the compiled part: the same numbers, more slowly
    _binning = None

HAVE_COMPILED = _binning is not None

BINS = 1 << 16
MOST = 2.0**62  # values of a tensor: their sums stay within int64
TABLES, SPARE = 4, 16  # of the compiled loop: it counts in several, with a spare zero in each
ROOM = (1 << 32) - 1  # values that the compiled loop's counters hold for sure
NONFINITE = 0x7F80  # first magnitude bin of infinities and NaN
BLOCK = 1 << 15  # values that np.bincount is given at a time, to stay in cache

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
UInt16 = npt.NDArray[np.uint16]
UInt32 = npt.NDArray[np.uint32]
Float64 = npt.NDArray[np.float64]


class Accumulator:
    """Counts values as they pass. One thread at a time: give each worker its own, then merge."""

    def __init__(self) -> None:
        self._minmax = np.array([np.inf, -np.inf], np.float32)
        # Zero pages from the system, where untouched ones cost nothing; malloc may clear old ones.
        self._counts: Int64 = _pages(BINS, np.int64)
        self._tables = _zero_pages() if _binning is not None else None
        self._room = ROOM
        self._taken = EMPTY

    def observe(self, x: npt.ArrayLike) -> None:
        """Add the values of `x`: any shape and real dtype, converted to float32."""
        values = x if _is_plain(x) else _plain(x)
        if self._tables is None:
            count_numpy(self._counts, self._minmax, values)
        elif values.size <= self._room:
            _binning.count(self._tables, self._minmax, values)
            self._room -= values.size
        else:
            self._fold(self._tables)
            for start in range(0, values.size, ROOM):
                self.observe(values.reshape(-1)[start : start + ROOM])

    def _fold(self, tables: UInt32) -> None:
        """Move the counts of the compiled loop to those with more bits."""
        self._counts += _table_counts(tables)
        tables[:] = 0
        self._room = ROOM

    def histogram(self) -> Histogram:
        """What was counted so far, as a value; since the last `take`, if there was one."""
        counts = self._counts.copy()
        if self._tables is not None:
            counts += _table_counts(self._tables)
        counts[self._taken.bins] -= self._taken.counts
        return from_counts(counts, *map(float, self._minmax))

    def take(self) -> Histogram:
        """What was counted since the last `take`. The counters stay warm: what was taken is taken
        off what they show."""
        found = self.histogram()
        self._taken = merge(self._taken, found)
        self._minmax[:] = np.inf, -np.inf
        return found


class Octaves:
    """Counts the values of one array after another by their exponents, in the same small tables."""

    def __init__(self) -> None:
        self._tables = _zero_pages() if _binning is not None else None
        self._before = np.zeros(256, np.uint32)

    def count(self, x: npt.ArrayLike) -> tuple[UInt32, float, float]:
        """(counts by exponent as float32 has it, shape (256,), of fewer than 2^32 values; least;
        largest). Zeros have exponent 0, what is not finite has 255."""
        values, minmax = _plain(x), np.array([np.inf, -np.inf], np.float32)
        if self._tables is None:
            counts = np.zeros(BINS, np.int64)
            count_numpy(counts, minmax, values)
            found = _exponents(counts.astype(np.uint32))
        else:
            _binning.count(self._tables, minmax, values)
            bins = self._tables[:, SPARE:].sum(axis=0, dtype=np.uint32)
            bins[0] += self._tables[:, :SPARE].sum(dtype=np.uint32)
            now = _exponents(bins)
            found, self._before = now - self._before, now  # exact modulo 2^32
        return found, float(minmax[0]), float(minmax[1])


def _exponents(bins: UInt32) -> UInt32:
    """Counts by sign, exponent and mantissa, added up over all but the exponent."""
    found: UInt32 = bins.reshape(2, 256, -1).sum(axis=(0, 2), dtype=np.uint32)
    return found


def from_counts(counts: Int64, low: float, high: float) -> Histogram:
    """The histogram of counts by bin number, shape (BINS,), which are changed: the negative zero is
    zero. `low` and `high` are the exact minimum and maximum."""
    counts[0] += counts[0x8000]
    counts[0x8000] = 0
    return _sparse(counts, low + 0.0, high + 0.0)


def _is_plain(x: object) -> TypeGuard[Float32]:
    return isinstance(x, np.ndarray) and x.dtype == np.float32 and x.flags.c_contiguous


def _plain(x: npt.ArrayLike) -> Float32:
    with np.errstate(over="ignore"):  # beyond float32 counts as infinite
        return np.ascontiguousarray(x, np.float32)


def _zero_pages() -> UInt32:
    return _pages(TABLES * (SPARE + BINS), np.uint32).reshape(TABLES, SPARE + BINS)


def _pages(size: int, dtype: type[np.generic]) -> Array:
    return np.frombuffer(mmap.mmap(-1, size * np.dtype(dtype).itemsize), dtype)


def _table_counts(tables: UInt32) -> Int64:
    counts: Int64 = tables[:, SPARE:].sum(axis=0, dtype=np.int64)
    counts[0] += tables[:, :SPARE].sum(dtype=np.int64)
    return counts


def count_numpy(counts: Int64, minmax: Array, x: Array) -> None:
    """Add contiguous float32 `x` to `counts` and `minmax` in place, as the compiled loop does."""
    halves = x.reshape(-1).view(np.uint32)
    for start in range(0, halves.size, BLOCK):
        found = np.bincount(halves[start : start + BLOCK] >> 16)
        counts[: found.size] += found
    minmax[0] = np.fmin.reduce(x, axis=None, initial=minmax[0])
    minmax[1] = np.fmax.reduce(x, axis=None, initial=minmax[1])


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts per bin with the exact minimum and maximum.

    bins: uint16 bin numbers with a count, ascending by value (most negative first).
    counts: int64, as long as `bins`, all positive.
    min, max: exact, NaN left out; inf and -inf where nothing was counted.
    """

    bins: UInt16
    counts: Int64
    min: float
    max: float

    def __repr__(self) -> str:
        return f"Histogram({self.count} values from {self.min:.6g} to {self.max:.6g})"

    @property
    def count(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def nonfinite(self) -> int:
        """How many of them were infinite or NaN."""
        return int(self.counts[(self.bins & 0x7FFF) >= NONFINITE].sum())

    @property
    def zeros(self) -> int:
        """How many of them were zero."""
        return int(self.counts[self.bins == 0].sum())

    @property
    def amax(self) -> float:
        """The exact largest |x|; 0 where nothing was counted."""
        return max(abs(self.min), abs(self.max)) if self.count else 0.0

    def check_finite(self, where: str = "") -> None:
        """Raises OnnxqError, `where` before its text, if a value is infinite or NaN."""
        if bad := self.nonfinite:
            raise OnnxqError(
                f"{where}{bad} of {self.count} values are infinite or NaN, so no range "
                "can be read; check the data and the float model, or leave the node out"
            )

    def magnitude(self) -> Magnitude:
        """The distribution of |x|; raises OnnxqError where a value is not finite."""
        return _magnitude(self, self.bins & 0x7FFF, self.counts, self.amax)

    def negative(self) -> Magnitude:
        """The distribution of |x| of the values below zero; raises as `magnitude` does."""
        below = self.bins >= 0x8000
        return _magnitude(self, self.bins[below] & 0x7FFF, self.counts[below], abs(self.min))

    def nonnegative(self) -> Magnitude:
        """The distribution of the values from zero up; raises as `magnitude` does."""
        above = self.bins < 0x8000
        return _magnitude(self, self.bins[above], self.counts[above], abs(self.max))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        same = np.array_equal(self.bins, other.bins) and np.array_equal(self.counts, other.counts)
        return same and (self.min, self.max) == (other.min, other.max)

    def __hash__(self) -> int:
        return hash((self.bins.tobytes(), self.counts.tobytes(), self.min, self.max))


@dataclass(frozen=True)
class Magnitude:
    """Bins of |x| in ascending order: `counts[i]` values lie in [low[i], high[i]].

    Zero is a bin of no width, and the last bin ends at the exact maximum.
    """

    low: Float64
    high: Float64
    counts: Int64


EMPTY = Histogram(np.zeros(0, np.uint16), np.zeros(0, np.int64), float("inf"), float("-inf"))


def histogram_of(*arrays: npt.ArrayLike) -> Histogram:
    """The histogram of all values of `arrays`."""
    accumulator = Accumulator()
    for x in arrays:
        accumulator.observe(x)
    return accumulator.histogram()


def merge(*histograms: Histogram) -> Histogram:
    """The histogram of all values of all `histograms`: exact, associative and commutative."""
    return reduce(_add, histograms, EMPTY)


def _add(a: Histogram, b: Histogram) -> Histogram:
    if not b.bins.size or not a.bins.size:
        return a if a.bins.size else b
    if sum(float(h.counts.sum(dtype=np.float64)) for h in (a, b)) >= MOST:
        raise DataError("these statistics hold 2^62 values of a tensor or more, which they cannot "
                        "count; merge fewer, or count again if one was damaged")  # fmt: skip
    counts = np.zeros(BINS, np.int64)
    counts[a.bins] = a.counts
    counts[b.bins] += b.counts
    return _sparse(counts, min(a.min, b.min), max(a.max, b.max))


def _sparse(counts: Int64, low: float, high: float) -> Histogram:
    """The histogram of dense `counts` by bit pattern; negative bins run backwards."""
    (found,) = np.nonzero(counts)
    first_negative = np.searchsorted(found, 0x8000)
    by_value = np.concatenate([found[first_negative:][::-1], found[:first_negative]])
    return Histogram(by_value.astype(np.uint16), counts[by_value], low, high)


def _magnitude(histogram: Histogram, bins: Array, counts: Int64, amax: float) -> Magnitude:
    histogram.check_finite()
    total = np.bincount(bins, counts, NONFINITE).astype(np.int64)
    (found,) = np.nonzero(total)
    low, high = _value(found), _value(found + 1)
    high[found == 0] = 0
    np.minimum(high, amax, out=high)
    return Magnitude(low, high, total[found])


def _value(bins: Int64) -> Float64:
    return (bins.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
