"""A device's bandwidth, rates and overhead, fitted to the times of its kernels.

    ms = max(bytes / bandwidth, multiply-accumulates / rate[type]) + overhead

The logarithms of bandwidth, rates and overhead are chosen for the least sum of soft L1 losses
2 (sqrt(1 + z^2) - 1), z = log(ms by the formula / ms measured) / SCALE: a kernel that is ten times
slower than the others of its kind moves the fit little. A rate is fitted of each type that FEWEST
kernels multiply in, held near its ratio to the most used type where the times say little; other
types have that ratio.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from onnxq.errors import OnnxqError
from onnxq.words import count

Array = npt.NDArray[np.float64]
Residuals = Callable[[Array], Array]  # of the parameters
FEWEST = 5  # kernels of a type that its own rate is fitted to
LEAST = 3  # kernels that anything is fitted to
SCALE, NEAR = 0.3, 0.3  # of a log: an error that is usual; how firmly rates keep to their ratios
TINY = 1e-9
STEPS, NUDGE = 200, 1e-6  # of a descent: at most, and what a slope is read off
FARTHEST = 3.0  # of a step, in logs
LIMITS = ("bytes", "macs", "overhead")
# Rates beside FP16's, of matrix units without sparsity from NVIDIA's Turing on; FP32 as TF32.
RATIOS = {"fp16": 1.0, "bf16": 1.0, "fp32": 0.5, "int8": 2.0, "fp8": 2.0}


@dataclass(frozen=True)
class Row:
    """What a kernel moves, multiplies and takes. type: that it multiplies in."""

    name: str
    bytes: float
    macs: float
    type: str
    ms: float


@dataclass(frozen=True)
class Fitted:
    """bandwidth: bytes a millisecond. rates: type -> multiply-accumulates a millisecond.
    overhead: milliseconds a kernel. limits: how many kernels each of "bytes", "macs" and
    "overhead" takes longest in. errors: kernel -> its time by the formula over the one
    measured, less 1; the worst first."""

    bandwidth: float
    rates: Mapping[str, float]
    overhead: float
    limits: Mapping[str, int]
    errors: Mapping[str, float]

    def ms(self, moved: float, macs: float, dtype: str) -> float:
        """The time of a kernel that moves so many bytes and multiplies in a type; raises OnnxqError
        for a type whose rate nothing says."""
        seconds = moved / self.bandwidth
        if macs:
            if dtype not in self.rates:
                raise OnnxqError(f"no rate of {dtype} is known; state it: --rates {dtype}=2 is "
                                 "twice FP16")  # fmt: skip
            seconds = max(seconds, macs / self.rates[dtype])
        return seconds + self.overhead

    @property
    def median_error(self) -> float:
        """The median of the relative errors, as a share."""
        return float(np.median(np.abs(list(self.errors.values()))))


def ratios_of(text: str | None) -> dict[str, float]:
    """Rates beside FP16's from a text such as "int8=1.5,fp32=1", the others as in RATIOS; raises
    OnnxqError for anything else."""
    found = dict(RATIOS)
    for word in (text or "").split(","):
        if not word.strip():
            continue
        name, _, number = (part.strip() for part in word.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if name not in RATIOS or not 0 < value < float("inf"):
            raise OnnxqError(f"--rates '{word.strip()}': write TYPE=NUMBER, the rate beside "
                             f"FP16's, TYPE one of {', '.join(RATIOS)}")  # fmt: skip
        found[name] = value
    return found


def fit(rows: Sequence[Row], ratios: Mapping[str, float]) -> Fitted:
    """The device that these kernels ran on; raises OnnxqError for fewer than LEAST of them."""
    rows = [row for row in rows if row.ms > 0 and row.bytes > 0]
    if len(rows) < LEAST:
        raise OnnxqError(f"the profile has only {count(len(rows), 'kernel')} of the model; "
                         f"a cost is fitted to {LEAST} or more")  # fmt: skip
    base, own = _types(rows)
    moved, macs, ms = (np.array([getattr(r, n) for r in rows]) for n in ("bytes", "macs", "ms"))
    owner = np.array([own.index(r.type) if r.type in own else len(own) for r in rows])
    held = np.log([ratios.get(t, 1.0) / ratios.get(base, 1.0) for t in own])
    other = np.log([ratios.get(r.type, 1.0) / ratios.get(base, 1.0) for r in rows])

    def taken(p: Array) -> Array:
        rates = np.append(p[2:], 0.0)[owner] + np.where(owner == len(own), p[2] + other, 0.0)
        overhead = np.full(len(rows), np.exp(p[1]))
        return np.stack([moved / np.exp(p[0]), macs / np.exp(rates), overhead])

    def predicted(p: Array) -> Array:
        by_bytes, by_macs, overhead = taken(p)
        return np.asarray(np.maximum(by_bytes, by_macs) + overhead)

    def residuals(p: Array) -> Array:
        near = NEAR * (p[3:] - p[2] - held[1:])
        return np.append(np.log(predicted(p) / ms), near) / SCALE

    best = _best(residuals, moved, macs, ms, held)
    rates = {t: float(np.exp(r)) for t, r in zip(own, best[2:], strict=True)}
    for name, ratio in ratios.items():
        rates.setdefault(name, rates[base] * ratio / ratios.get(base, 1.0))
    errors = sorted(
        zip((r.name for r in rows), predicted(best) / ms - 1, strict=True),
        key=lambda item: -abs(np.log1p(item[1])),
    )
    longest = taken(best).argmax(axis=0)
    limits = {name: int((longest == i).sum()) for i, name in enumerate(LIMITS)}
    return Fitted(float(np.exp(best[0])), rates, float(np.exp(best[1])), limits,
                  {n: float(e) for n, e in errors})  # fmt: skip


def _types(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """The type that most time is spent in, and those whose rates are fitted, it first."""
    times: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        if row.macs:
            times[row.type] += row.ms
            counts[row.type] += 1
    base = max(times, key=lambda t: (times[t], t), default="fp16")
    return base, [base, *sorted(t for t in times if t != base and counts[t] >= FEWEST)]


def _best(residuals: Residuals, moved: Array, macs: Array, ms: Array, held: Array) -> Array:
    """The parameters of least loss, from starts at what the fastest kernels reach."""
    fastest = max(float(np.percentile(moved / ms, 90)), TINY)
    rate = max(float(np.percentile(macs[macs > 0] / ms[macs > 0], 90)) if macs.any() else 1.0, TINY)
    starts = product((0.0, 1.0), (0.0, 1.0), (0.5, 0.05))
    found = [
        _descended(
            residuals,
            np.array([np.log(fastest) + b, np.log(share * ms.min()), *(np.log(rate) + r + held)]),
        )
        for b, r, share in starts
    ]
    return min(found, key=lambda item: item[0])[1]


def _descended(residuals: Residuals, start: Array) -> tuple[float, Array]:
    """(loss, parameters) of a minimum of sum 2 (sqrt(1 + r^2) - 1), by Levenberg and Marquardt's
    damped steps, with weights for the loss: large residuals count by their size, not its square."""
    point, damping, nudges = start, 1e-3, NUDGE * np.eye(start.size)
    rest = residuals(point)
    loss = _soft(rest)
    for _ in range(STEPS):
        slope = np.stack([(residuals(point + d) - rest) / NUDGE for d in nudges])
        weights = 1 / np.sqrt(1 + rest**2)
        curve, gradient = (slope * weights) @ slope.T, slope @ (weights * rest)
        damped = curve + damping * np.diag(np.diag(curve) + TINY)
        step = np.clip(-np.linalg.solve(damped, gradient), -FARTHEST, FARTHEST)
        tried = residuals(point + step)
        now = _soft(tried)
        if now < loss:
            done = loss - now < 1e-12 * loss
            point, rest, loss, damping = point + step, tried, now, damping / 10
            if done:
                break
        elif damping > 1e9:
            break
        else:
            damping *= 10
    return loss, point


def _soft(rest: Array) -> float:
    return float((2 * (np.sqrt(1 + rest**2) - 1)).sum())
