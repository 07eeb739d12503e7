"""Whether a change of a quantized model does harm: SQNR at its outputs and their parts.

An output that is a Concat is judged by its parts (see `parts`): one scale of error for boxes in
pixels and scores below one would see the boxes alone.

Nothing is kept without evidence: noise that is not a number is infinite, places that are infinite
or NaN alike in both models are left out, and so are tensors of other lengths (noise NaN).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.gaps import signal_and_noise
from onnxq.model.graph import Graph
from onnxq.numerics import decibels
from onnxq.run.segments import reads

# Judged tensor -> (samples, 2) float64: sums of squares of the reference and of the difference.
Errors = Mapping[str, Array]
Sums = dict[str, tuple[float, float]]  # the same of one sample

CEILING = 200.0  # dB, in place of infinity
CERTAIN = 2.0  # standard errors
TOLERATED = 0.1  # dB that an output may lose on the average


def reached(
    graph: Graph, tensors: Iterable[str], judged: Collection[str]
) -> dict[str, frozenset[str]]:
    """For each of `tensors`, which of the tensors `judged` are computed from it; a tensor is
    computed from itself. Expects nodes in topological order."""
    none: frozenset[str] = frozenset()
    found = {name: frozenset([name]) for name in judged}
    for node in reversed(graph.nodes):
        ahead = none.union(*(found.get(t.name, none) for t in node.outputs))
        for tensor in reads(node) if ahead else ():
            found[tensor.name] = found.get(tensor.name, none) | ahead
    return {name: found.get(name, none) for name in tensors}


def sums(reference: Mapping[str, Array], test: Mapping[str, Array]) -> Sums:
    """Of one sample, for each tensor: sums of squares of the reference and of the difference.

    The difference is NaN for two lengths, infinite where one of the two alone is not finite.
    """
    return {name: signal_and_noise(values, test[name]) for name, values in reference.items()}


def gathered(samples: Iterable[Sums]) -> dict[str, Array]:
    """The errors of all samples."""
    rows = list(samples)
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def sqnr(errors: Errors) -> dict[str, float]:
    """SQNR in dB of each tensor over all samples; tensors of other lengths are left out."""
    return {
        name: _bounded(*(math.fsum(part) for part in rows.T))
        for name, rows in errors.items()
        if not np.isnan(rows).any()
    }


def worst_fall(before: Errors, after: Errors, scores: Collection[str] = ()) -> str | None:
    """The tensor that argues most against going from `before` to `after`; None where none does.
    Where no tensor can tell, any does.

    Either its SQNR falls by more than `TOLERATED`, sample by sample on the average or over all of
    them together, or no tensor's does but over all tensors nothing is gained. A fall that the few
    samples cannot tell from scatter counts: going on as before costs nothing. A gain need not stand
    out of the scatter: classifiers gain 1 dB on fresh samples where 16 judges say 0.5 +- 0.7. That
    of `scores` beside boxes must, where they move, by twice its standard error: what counts of them
    is few and near a threshold, and boxes gain so much that they would pay for anything (YOLO11n:
    boxes 7 dB, scores 1.3 +- 0.7, and 1.6 points of mAP less on each of two sets of 64 images).
    """
    pooled = sqnr(before), sqnr(after)
    falls = {n: _falls(before[n], after[n]) for n in before if n in pooled[0] and n in pooled[1]}
    whole = {name: pooled[0][name] - pooled[1][name] for name in falls}
    mean = {n: max(float(fall.mean()), whole[n]) for n, fall in falls.items() if len(fall)}
    if not mean:  # references of nothing but zeros have no SQNR
        gained = any(after[n][:, 1].sum() < before[n][:, 1].sum() for n in falls)
        return None if gained else next(iter(before), None)
    moved = [n for n in mean if n in scores and not np.array_equal(before[n], after[n])]
    if unsure := [name for name in moved if not _gains(falls[name])]:
        return unsure[0]
    worst = max(mean, key=lambda name: mean[name])
    if mean[worst] > TOLERATED or sum(mean.values()) >= 0:
        return worst
    return None


def hopeless(before: Errors, after: Errors, scores: Collection[str] = ()) -> str | None:
    """The tensor that speaks so clearly against going from `before` to `after` that more samples
    would hardly outvote these few; None where they may.

    One of `scores`, which must gain for certain, that gains nothing on the average; or any that
    falls by more than `TOLERATED` for certain. Both argue against it in `worst_fall` too.
    """
    for name in before:
        falls = _falls(before[name], after[name])
        if len(falls) < 2 or np.array_equal(before[name], after[name]):
            continue
        if name in scores and falls.mean() >= 0:
            return name
        if falls.mean() - _spread(falls) > TOLERATED:
            return name
    return None


def _gains(falls: Array) -> bool:
    """Whether samples agree that the SQNR rises."""
    if len(falls) < 2:
        return bool((falls < 0).all())
    return float(falls.mean()) < -_spread(falls)


def _spread(falls: Array) -> float:
    """By how much the mean of samples may be another for all samples there are."""
    return CERTAIN * float(falls.std(ddof=1)) / math.sqrt(len(falls))


def _falls(before: Array, after: Array) -> Array:
    """By how many dB the SQNR falls in each sample whose reference is not all zero."""
    falls = [_bounded(*b) - _bounded(*a) for b, a in zip(before, after, strict=True) if b[0] > 0]
    return np.asarray(falls, np.float64)


def _bounded(power: float, noise: float) -> float:
    return float(np.clip(decibels(power, noise), -CEILING, CEILING))
