"""Whether there is data enough: what twice as many samples would change, and how many it takes.

The samples are counted in parts of one size, as their content orders them; the parts add up to the
whole exactly. Ranges are read off nested subsets of the parts: an eighth, a quarter, a half and
all. With e(k) the expected error, on all the values, of the ranges of k of the n parts,

    D(k) = 10 log10(e(k) / e(n))   fits   c (k^-a - n^-a)

a range that ends where an average does has a = 1: its distance from where it will end falls as
1 / sqrt(samples), and the error near its least is a parabola. One exponent is fitted to all tensors
together, a factor c to each. That of the whole data is judged by data that it was read off, and yet
D(k) is not too small: what the whole is too good by there, the subset is too (with a = 1, the
expectation of D(n / 2) is that of the gain from n / 2 to n parts on data that neither has seen).
Twice the data thus changes SQNR by c (n^-a - (2 n)^-a) dB, in the mean over what data may come.

The figure has an uncertainty: how far subsets of a size, and the sizes, are apart. And a doubling
is one draw of what data may come: with a = 1 and normal ends, sqrt(6) times the mean is its
standard deviation. So many doublings do harm where the mean is a gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, hypot
from typing import Any

import numpy as np

from onnxq.calib.data import Dataset
from onnxq.calib.histogram import Float64
from onnxq.calib.holdout import content_order
from onnxq.calib.quant_error import mean_square
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats, merge
from onnxq.errors import DataError
from onnxq.table import Table
from onnxq.words import count

PARTS, FEWEST = 8, 2  # parts; samples in each of them
DRAW = 6**0.5  # standard deviation of one doubling, by its mean
MANY = 10**9  # samples, more than anyone has
SMALL = 0.1  # dB that make no difference
DECAYS = np.linspace(0.5, 2.0, 31)  # exponents that are tried

Read = Callable[[Stats], Ranges]
Judge = Callable[[Sequence[Ranges]], Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Change:
    """What twice the data would change.

    change_db: of the expected SQNR, more being better, in the mean; error_db: the standard error of
    that figure and the standard deviation of one doubling, together.
    move: by what share the range would move. needed: the number of samples from which twice as
    many change less than SMALL dB; at least a part, as nothing is known of fewer.
    """

    change_db: float
    error_db: float
    move: float
    needed: int


@dataclass(frozen=True)
class Enough:
    """What twice the samples would change: tensor by tensor, and of the noise of all `together`,
    each weighed by the signal of its tensor. decay: the exponent a."""

    model: str
    samples: int
    parts: int
    decay: float
    tensors: Mapping[str, Change]
    together: Change

    @property
    def worst(self) -> str:
        """The tensor that would change most; empty where there is none."""
        by_change = ((abs(c.change_db), name) for name, c in self.tensors.items())
        return max(by_change, default=(0.0, ""))[1]

    def line(self) -> str:
        """In a line: whether the data are enough."""
        if not self.worst:
            return "data: no range depends on them"
        most, needed = self.tensors[self.worst], max(c.needed for c in self.tensors.values())
        change = f"{most.change_db:+.2f} +- {most.error_db:.2f} dB"
        would = "are needed" if needed > self.samples else "do"
        return (
            f"data: twice the {count(self.samples, 'sample')} would change the SQNR of no tensor "
            f"by more than {change} ('{self.worst}'); {needed} "
            f"{would}, for less than {SMALL} dB"
        )

    def table(self) -> Table:
        """The tensors, those that would change most first."""
        by_change = sorted(self.tensors.items(), key=lambda item: -abs(item[1].change_db))
        rows = [
            (
                name or "all, by their noise",
                f"{c.change_db:+.3f}",
                f"{c.error_db:.3f}",
                f"{100 * c.move:.1f}",
                c.needed,
            )
            for name, c in [("", self.together), *by_change]
        ]
        title = f"With twice the {count(self.samples, 'sample')}, judged by {self.parts} parts"
        return Table(title, ("tensor", "SQNR dB", "+-", "range moves %", "samples needed"), rows)

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return {**asdict(self), "worst": self.worst, "small_db": SMALL}


def parted(dataset: Dataset, parts: int = PARTS) -> list[Dataset]:
    """The samples in `parts` parts, as many as a power of two goes; one part where that would be
    of fewer than two samples each.

    Which part a sample is in depends on what it holds, not on where it lies.
    """
    while parts > 1 and len(dataset) < parts * FEWEST:
        parts //= 2
    if parts == 1:
        return [dataset]
    order = content_order(dataset)
    return [dataset.select(sorted(order[i::parts])) for i in range(parts)]


def enough(parts: Sequence[Stats], whole: Ranges, read: Read, judge: Judge) -> Enough:
    """What twice the data would change, from the statistics of equal parts of it.

    `read` reads ranges off statistics; `whole` are those of all parts. `judge` has the errors on
    all values with each of several ranges for a tensor. Raises DataError unless there are 2, 4, 8
    .. parts.
    """
    if len(parts) < 2 or len(parts) & (len(parts) - 1):
        raise DataError(
            f"{count(sum(s.samples for s in parts), 'sample')} cannot tell whether they are "
            f"enough; give at least {2 * FEWEST}"
        )
    stats = merge(*parts)
    names = [name for name, r in whole.tensors.items() if r.amax and r.expected_error > 0]
    least = np.array([whole[name].expected_error for name in names])
    signal = np.array([mean_square(stats[name]) for name in names])
    ends = np.array([whole[name].amax for name in names])
    levels = []
    for size in _sizes(len(parts)):
        subsets = [read(merge(*some)) for some in _subsets(parts, size)]
        judged = judge(subsets)
        errors = np.array([judged[name] for name in names]).reshape(-1, len(subsets)).T
        moves = np.array([[ranges[name].amax for name in names] for ranges in subsets]) / ends - 1
        levels.append(_Level(size, len(parts), errors, moves))
    return _extrapolated(stats, names, levels, least, signal)


def _sizes(parts: int) -> list[int]:
    """1, 2, 4 .. half of them."""
    return [1 << i for i in range(parts.bit_length() - 1)]


def _subsets(parts: Sequence[Stats], size: int) -> list[list[Stats]]:
    """As many subsets of a size as there are parts, each part in as many of them."""
    n = len(parts)
    return [[parts[(i + j) % n] for j in range(size)] for i in range(n)]


@dataclass(frozen=True)
class _Level:
    """The subsets of `size` of `parts` parts. errors, moves: of each subset, of each tensor."""

    size: int
    parts: int
    errors: Float64
    moves: Float64

    @property
    def freedom(self) -> float:
        """How many independent subsets there are beside the whole."""
        return self.parts / self.size - 1

    def share(self, decay: float) -> float:
        """k^-a - n^-a, by n^-a."""
        return float((self.parts / self.size) ** decay - 1)


def _extrapolated(
    stats: Stats, names: Sequence[str], levels: Sequence[_Level], least: Float64, signal: Float64
) -> Enough:
    excess = [_decibels(level.errors, least) for level in levels]
    decay = _decay(levels, [float(x.mean(axis=0).sum()) for x in excess])
    weights = np.where(signal > 0, 1 / np.where(signal > 0, signal, 1), 0)
    noise = [_decibels((level.errors * weights).sum(axis=1), least @ weights) for level in levels]
    half = levels[-1]
    part = max(1, stats.samples // half.parts)
    moved = np.sqrt((half.moves**2).mean(axis=0) * _ahead(decay) / half.share(decay))
    changes, deviations = _change(levels, excess, decay)
    every, apart = _change(levels, [x[:, None] for x in noise], decay)
    rows = zip(names, changes.tolist(), deviations.tolist(), moved.tolist(), strict=True)

    def change(found: float, error: float, move: float) -> Change:
        needed = stats.samples * (abs(found) / SMALL) ** (1 / decay)
        return Change(found, error, move, max(part, min(ceil(needed), MANY)))

    tensors = {
        name: change(found, hypot(error, DRAW * found), move) for name, found, error, move in rows
    }
    share = least * weights / max(float(least @ weights), 1e-300)
    drawn = DRAW * float(np.linalg.norm(changes * share))  # each tensor by itself
    mean_move = float(moved.mean()) if names else 0.0
    together = change(float(every[0]), hypot(float(apart[0]), drawn), mean_move)
    return Enough(stats.model, stats.samples, half.parts, decay, tensors, together)


def _decibels(errors: Float64, least: Float64) -> Float64:
    """10 log10 of the quotient; 0 where either is none."""
    both = (errors > 0) & (least > 0)
    quotient = np.where(both, errors, 1) / np.where(both, least, 1)
    found: Float64 = 10 * np.log10(quotient)
    return found


def _decay(levels: Sequence[_Level], sums: Sequence[float]) -> float:
    """The exponent with which the excess of all tensors falls; 1 where that cannot be told."""
    if len(levels) < 2 or min(sums) <= 0:
        return 1.0
    weights = [level.freedom for level in levels]

    def misfit(decay: float) -> float:
        factors = np.log([s / level.share(decay) for s, level in zip(sums, levels, strict=True)])
        mean = np.average(factors, weights=weights)
        return float(np.average((factors - mean) ** 2, weights=weights))

    return float(min(DECAYS.tolist(), key=misfit))


def _ahead(decay: float) -> float:
    """n^-a - (2 n)^-a, by n^-a."""
    return float(1 - 2**-decay)


def _change(
    levels: Sequence[_Level], excess: Sequence[Float64], decay: float
) -> tuple[Float64, Float64]:
    """What twice the data change, by tensor: as the levels say it, each by its freedom; and the
    standard error, of the subsets of a level and of the levels among each other."""
    weights = np.array([level.freedom for level in levels])
    weights /= weights.sum()
    said = [
        x * (_ahead(decay) / level.share(decay)) for level, x in zip(levels, excess, strict=True)
    ]
    means = np.array([x.mean(axis=0) for x in said])
    errors = [
        x.var(axis=0) * level.size / level.parts for level, x in zip(levels, said, strict=True)
    ]
    change = weights @ means
    between = weights @ (means - change) ** 2
    return change, np.sqrt(weights**2 @ np.array(errors) + between)
