"""What a score is: sums over samples, and what is read off them.

    SQNR   = 10 log10(sum(ref^2) / sum((ref - test)^2))        in dB
    MSE    = mean((ref - test)^2)
    cosine = sum(ref * test) / sqrt(sum(ref^2) * sum(test^2))
    KL     = mean over rows of sum(p * log(p / q)),  p = softmax(ref), q = softmax(test)
    top1   = 100 * mean(argmax(test) == label)

A metric adds up over samples: `sums` gives a sample's part, `score` reads any total of parts, so
that the spread over samples can be had from totals with one sample left out. `damage` is what a
ranking sorts by: 0 where nothing is lost, larger is worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import DataError

Sums = tuple[float, ...]

LABEL_FREE = ("sqnr", "mse", "cosine", "kl")


class Metric(Protocol):
    """A score that adds up over samples."""

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """The part of sample `i`: one output of the float model and of the toggled one."""
        ...

    def score(self, sums: Array) -> Array:
        """Scores [...] of totals [..., K] of parts."""
        ...

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """Damage [...] of totals [..., K], given those of the float model with itself."""
        ...


@dataclass(frozen=True)
class Sqnr:
    """SQNR in dB; the damage is noise over signal, which is what adds up over nodes."""

    name: str = "sqnr"
    higher_is_better: bool = True

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(noise, signal, count)."""
        return _gap(ref, test)

    def score(self, sums: Array) -> Array:
        """dB; inf without noise, -inf without signal."""
        with np.errstate(divide="ignore"):
            return np.asarray(-10 * np.log10(self.damage(sums, sums)))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """noise / signal; 0 where there is neither."""
        noise, signal = sums[..., 0], sums[..., 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(noise == 0, 0.0, noise / signal)


@dataclass(frozen=True)
class Mse:
    """Mean squared error."""

    name: str = "mse"
    higher_is_better: bool = False

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(noise, signal, count)."""
        return _gap(ref, test)

    def score(self, sums: Array) -> Array:
        """The mean over all values; 0 for an output without values."""
        return np.asarray(sums[..., 0] / np.maximum(sums[..., 2], 1))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """The score itself."""
        return self.score(sums)


@dataclass(frozen=True)
class Cosine:
    """Cosine similarity of all values of all samples."""

    name: str = "cosine"
    higher_is_better: bool = True

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(dot product, power of the test, power of the reference)."""
        r, t = ref.reshape(-1), test.reshape(-1)
        return _dot(r, t), _dot(t, t), _dot(r, r)

    def score(self, sums: Array) -> Array:
        """-1 to 1; 1 where both are all zero, 0 where one is."""
        dot, test, ref = sums[..., 0], sums[..., 1], sums[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            both = np.where(test == ref, 1.0, 0.0)
            return np.where((test == 0) | (ref == 0), both, dot / np.sqrt(test) / np.sqrt(ref))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """1 - cosine, at least 0."""
        return np.maximum(1.0 - self.score(sums), 0.0)


@dataclass(frozen=True)
class Kl:
    """KL divergence of the softmaxed reference from the softmaxed test, in nats a row.

    Classes lie along the last axis of outputs of rank 1 to 3, along axis 1 of larger ones.
    """

    name: str = "kl"
    higher_is_better: bool = False

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(sum of the rows' divergences, rows)."""
        axis = 1 if ref.ndim > 3 else -1
        p, q = (_log_softmax(x, axis) for x in (ref, test))
        gap = np.subtract(p, q, out=np.zeros_like(p), where=~(np.isneginf(p) & np.isneginf(q)))
        return float((np.exp(p) * gap).sum()), ref.size / max(p.shape[axis], 1)

    def score(self, sums: Array) -> Array:
        """Nats a row."""
        return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """The score, at least 0: rounding may leave a little less."""
        return np.maximum(self.score(sums), 0.0)


@dataclass(frozen=True)
class Top1:
    """Share, 0 to 100, of rows whose largest value is at the label; `labels`: [samples][rows]."""

    labels: tuple[Array, ...]
    name: str = "top1"
    higher_is_better: bool = True

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(rows that are right, rows); raises DataError where labels do not fit the rows."""
        found = np.atleast_2d(test).reshape(-1, test.shape[-1] if test.ndim else 1).argmax(axis=1)
        if len(found) != len(self.labels[i]):
            raise DataError(
                f"sample {i} has {len(self.labels[i])} labels and the output {len(found)} rows of "
                f"classes, shape {test.shape}; name the output of the classes with --output"
            )
        return float((found == self.labels[i]).sum()), float(len(found))

    def score(self, sums: Array) -> Array:
        """Per cent."""
        return np.asarray(100.0 * sums[..., 0] / np.maximum(sums[..., 1], 1))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """Points below the float model."""
        return np.asarray(self.score(float_sums) - self.score(sums))


def sums_of(metric: Metric, i: int, ref: Array, test: Array) -> Sums:
    """The metric's part of a sample. Values that are infinite or NaN alike in both, as masked
    logits are, are left out, or count as 0 in rows of classes; of values that are so in one alone
    the sums are not finite."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        sums = metric.sums(i, ref, test)
    if all(map(math.isfinite, sums)):
        return sums
    alike = ~np.isfinite(ref) & ((ref == test) | (np.isnan(ref) & np.isnan(test)))
    if isinstance(metric, Sqnr | Mse | Cosine):
        return metric.sums(i, ref[~alike], test[~alike])
    if isinstance(metric, Kl) and alike.all():
        return 0.0, 0.0  # no rows
    return metric.sums(i, *(np.where(alike, 0, x).astype(x.dtype) for x in (ref, test)))


def is_told(sums: Array) -> bool:
    """Whether there was anything to score in sums [..., K]: what follows the first sum, which is of
    what went wrong or right, is how much there was."""
    return bool(sums[..., 1:].any())


def _gap(ref: Array, test: Array) -> Sums:
    # the difference of near values is exact in float32; squares are added in float64
    gap, signal = np.subtract(test, ref).reshape(-1), ref.reshape(-1)
    return _dot(gap, gap), _dot(signal, signal), float(ref.size)


def _dot(a: Array, b: Array) -> float:
    # one thread, where BLAS would start more; converted piece by piece, in the cache
    return float(np.einsum("i,i->", a, b, dtype=np.float64, casting="unsafe"))


def _log_softmax(x: Array, axis: int) -> Array:
    x = np.atleast_1d(np.asarray(x, np.float64))
    x = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
    return np.asarray(x - np.log(np.exp(x).sum(axis=axis, keepdims=True)))
