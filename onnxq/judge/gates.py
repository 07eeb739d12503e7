"""Thresholds of a comparison: what they are held against, and which are missed.

A threshold that nothing can be held against is missed, never met. Integers, booleans and text are
compared by equality: they count towards an agreement, and towards the other thresholds only where
no float output can be compared, as what is equal is within any of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnxq.arrays import Array
from onnxq.errors import OnnxqError
from onnxq.judge.accuracy import Agreement, Agreements, agreement
from onnxq.judge.gaps import finite_pairs
from onnxq.option import option, settle

ERROR_STATS = ("mean", "max", "median", "elemwise")
BOUNDS = {"tolerance": (0, math.inf), "atol": (0, math.inf), "min_sqnr": (-math.inf, math.inf),
          "min_cosine": (-1, 1), "min_agreement": (0, 1)}  # fmt: skip


@dataclass(frozen=True)
class Thresholds:
    """What decides the exit code; None is not asked for.

    tolerance: judged on `error_stat`. min_agreement: of rows by their top class (last axis), and of
    equal values of outputs that are no floats.
    """

    tolerance: float | None = option(
        None, "Absolute and relative tolerance per sample, as in Polygraphy.", "Scoring"
    )
    error_stat: str = option("mean", "What --tolerance looks at.", "Scoring", choices=ERROR_STATS)
    atol: float | None = option(None, "Largest mean absolute error of an output.", "Scoring")
    min_sqnr: float | None = option(None, "Least SQNR of an output's part, in dB.", "Scoring")
    min_cosine: float | None = option(
        None, "Least cosine similarity of an output's part.", "Scoring"
    )
    min_agreement: float | None = option(
        None, "Least share of equal top classes, 0 to 1.", "Scoring"
    )

    def __post_init__(self) -> None:
        settle(self)
        if self.error_stat not in ERROR_STATS:
            raise OnnxqError(f"unknown error stat '{self.error_stat}'; choose {ERROR_STATS}")
        for name, (least, most) in BOUNDS.items():
            value, flag = getattr(self, name) or 0.0, "--" + name.replace("_", "-")
            if math.isnan(value):
                raise OnnxqError(f"{flag} nan holds for nothing; give a number")
            if not least <= value <= most:
                asked = (
                    f"from {least:g} to {most:g}" if most < math.inf else f"of {least:g} or more"
                )
                raise OnnxqError(f"{flag} {value:g} makes no sense; give a number {asked}")

    @property
    def distances(self) -> list[str]:
        """The options that were given and say how far apart floats may be."""
        values = {"--tolerance": self.tolerance, "--atol": self.atol, "--min-sqnr": self.min_sqnr,
                  "--min-cosine": self.min_cosine}  # fmt: skip
        return [flag for flag, value in values.items() if value is not None]


@dataclass
class TensorGap:
    """The comparison of one tensor so far. says_top: whether it is rows of classes, so that its
    figures tell how many top classes agree."""

    name: str
    says_top: bool = False
    sums: Agreement = field(default_factory=Agreement)
    peak: float = 0.0
    top_agree: int = 0
    top_total: int = 0
    within: int = 0
    samples: int = 0

    def add(self, ref: Array, test: Array, asked: Thresholds) -> None:
        """Add one sample."""
        one = agreement(ref, test)
        self.sums = self.sums + one
        r, t, _, _ = finite_pairs(ref, test)
        self.peak = max(self.peak, float(np.abs(r).max(initial=0.0)))
        agree = _same_top(ref, test)
        self.top_agree += int(agree.sum())
        self.top_total += agree.size
        self.within += not one.apart and _within(self.name, r, t, asked)
        self.samples += 1

    @property
    def psnr_db(self) -> float:
        """Peak SNR in dB: 10 log10(peak^2 / mean squared error); inf where they are equal."""
        if not self.sums.noise:
            return float("inf")
        mse = self.sums.noise / self.sums.count
        return 10 * float(np.log10(self.peak**2 / mse)) if self.peak else float("-inf")

    @property
    def top1(self) -> float:
        """Share of rows whose largest value is at the same place; NaN where there are no rows of
        classes."""
        return self.top_agree / self.top_total if self.top_total else math.nan

    def as_dict(self) -> dict[str, float]:
        """The figures of a report."""
        top = {"top1_agreement": round(self.top1, 5)} if self.says_top and self.top_total else {}
        return {
            **self.sums.as_dict(),
            "psnr_db": round(self.psnr_db, 3),
            **top,
            "samples_within_tolerance": self.within,
        }

    def with_spread(self) -> dict[str, float]:
        """The same of a part of the outputs, with how the samples' SQNR scatters."""
        figures = self.sums.with_spread() | self.as_dict()
        del figures["samples_within_tolerance"]  # whole outputs are held against a tolerance
        return figures


def _same_top(ref: Array, test: Array) -> npt.NDArray[np.bool_]:
    """For each row of classes, along the last axis, whether its largest value is at the same place;
    rows of the reference without one, NaN or not finite throughout, are left out."""
    if not ref.ndim or ref.shape[-1] < 2:
        return np.zeros(0, bool)
    told = ~np.isnan(ref).any(-1) & np.isfinite(ref).any(-1)
    same = (ref.argmax(-1) == test.argmax(-1)) & ~np.isnan(test).any(-1)
    return np.asarray(same[told])


def _within(name: str, ref: Array, test: Array, asked: Thresholds) -> bool:
    """Whether the finite values of one sample of one output pass Polygraphy's `simple`
    comparison."""
    if asked.tolerance is None or not ref.size:
        return True
    from polygraphy import comparator

    simple = getattr(comparator, "SimpleCompareFunc", None) or comparator.CompareFunc.simple
    judge = simple(atol=asked.tolerance, rtol=asked.tolerance, check_error_stat=asked.error_stat)
    one, two = (comparator.IterationResult({name: side}) for side in (ref, test))
    return bool(judge(one, two)[name])


def missed(
    outputs: Mapping[str, TensorGap],
    parts: Mapping[str, TensorGap],
    found: Agreements,
    samples: int,
    asked: Thresholds,
) -> Iterator[str]:
    """A line for each threshold that is missed, or that nothing can be held against. SQNR and
    cosine are those of the `parts`, which an output without any is itself."""
    for name, t in outputs.items():
        yield from _missed(name, t, samples, asked)
    for name, t in parts.items():
        if not t.sums.apart:
            yield from _too_low(name, t.sums, asked)
    if asked.min_agreement is not None:
        yield from _disagreeing(outputs, found, asked.min_agreement)
    given = " and ".join(asked.distances)
    if not given or outputs:
        return
    if not found.exact:
        yield f"{given} cannot be judged: {_nothing(found)}"
    for name, e in found.exact.items():
        if e.equal < e.count:
            yield (f"{given} cannot be judged: '{name}' is not of floats, and {100 * e.share:.2f}% "
                   "of its values are equal; give --min-agreement")  # fmt: skip


def _missed(name: str, t: TensorGap, samples: int, asked: Thresholds) -> Iterator[str]:
    """The thresholds on distance that a float output misses; what is not a number misses all."""
    if t.sums.apart:
        if asked.distances:
            yield (f"'{name}': {t.sums.apart} of its values are NaN or infinite in one model "
                   f"alone, so it misses {' and '.join(asked.distances)}")  # fmt: skip
        return
    if asked.tolerance is not None and t.within < samples:
        yield (f"'{name}': {samples - t.within} of {samples} samples beyond tolerance "
               f"{asked.tolerance:g} ({asked.error_stat})")  # fmt: skip
    if asked.atol is not None and not t.sums.mean_abs <= asked.atol:
        yield f"'{name}': mean absolute error {t.sums.mean_abs:.4g} is over {asked.atol:g}"


def _too_low(name: str, sums: Agreement, asked: Thresholds) -> Iterator[str]:
    """The thresholds that a part misses."""
    if asked.min_sqnr is not None and not sums.sqnr_db >= asked.min_sqnr:
        yield f"'{name}': SQNR {sums.sqnr_db:.2f} dB is under {asked.min_sqnr:g} dB"
    if asked.min_cosine is not None and not sums.cosine >= asked.min_cosine:
        yield f"'{name}': cosine {sums.cosine:.5f} is under {asked.min_cosine:g}"


def _disagreeing(
    outputs: Mapping[str, TensorGap], found: Agreements, least: float
) -> Iterator[str]:
    """The outputs whose top classes, or values that are no floats, agree too rarely."""
    shares = {name: ("top-1 agreement", t.top1) for name, t in outputs.items() if t.top_total}
    shares |= {name: ("share of equal values", e.share) for name, e in found.exact.items()}
    for name, (what, share) in shares.items():
        if not share >= least:
            yield f"'{name}': {what} {share:.4f} is under {least:g}"
    if not shares:
        why = "no output has rows of classes" if outputs else _nothing(found)
        yield f"--min-agreement cannot be judged: {why}"


def _nothing(found: Agreements) -> str:
    if not found.samples:
        return "there are no samples"
    why = [f"'{name}': {reason}" for name, reason in found.left_out.items()]
    return "; ".join(["no output can be compared", *why])
