"""Which samples stand for all: a few of thousands, so that ranges come out as those of all.

An eighth of the picks cover the range: the next is the sample that adds most to the sum over
tensors of log2 of the largest magnitude so far. The others make up for that, by herding (Welling
2009): the next is the one that brings the mean over all that are picked nearest to the mean over
all samples. What is averaged of a sample is where its energy lies,

    E[t, k] = share of values in octave k x 4^(-k),  by the square root of the mean of all,

and log2 m, both weighed alike. The mean of E over all samples is the tail of the pooled histogram,
which ranges are read off. To cover alone makes the rare common, and ranges too wide; herding alone
may leave out the one sample in a hundred that has what no other has (docs/data.md has figures).
"""

from __future__ import annotations

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.histogram import Float64
from onnxq.calib.signatures import DEPTH, Signatures
from onnxq.errors import DataError

COVERING = 8  # one pick in so many covers the range
LEAST = float(np.finfo(np.float32).tiny)
TINY = 1e-12  # share of a tensor's energy that is none


def pick(signatures: Signatures, count: int) -> list[str]:
    """The digests of `count` samples that stand for all, the most telling first.

    Raises DataError where there are fewer.
    """
    if not 1 <= count <= len(signatures):
        raise DataError(
            f"cannot pick {count} of {len(signatures)} different samples; ask for 1 to "
            f"{len(signatures)}"
        )
    said = _features(signatures)
    mean = said.mean(axis=0)
    squares = (said * said).sum(axis=1)
    chosen = _covering(signatures, count // COVERING)
    while len(chosen) < count:
        # |total + x - n mean|^2, without what all x have in common
        off = said[chosen].sum(axis=0) - (len(chosen) + 1) * mean
        away = 2 * said @ off + squares
        away[chosen] = np.inf
        chosen.append(int(np.argmin(away)))
    return [signatures.digests[i] for i in chosen]


def _covering(signatures: Signatures, count: int) -> list[int]:
    """The samples that add most, one after the other, to the largest magnitudes."""
    reach = _log2(signatures.amax)
    so_far, chosen = reach.min(axis=0), list[int]()
    for _ in range(count):
        gain = np.maximum(reach, so_far).sum(axis=1)
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        so_far = np.maximum(so_far, reach[chosen[-1]])
    return chosen


def _log2(amax: Array) -> Float64:
    """log2 of magnitudes; for none, that of the least there is of float32."""
    found: Float64 = np.log2(np.maximum(amax.astype(np.float64), LEAST))
    return found


def _features(signatures: Signatures) -> Float64:
    """What is averaged of each sample: shape (samples, features)."""
    amax = signatures.amax.astype(np.float64)
    exponent = np.frexp(np.maximum(amax, LEAST))[1]
    below = exponent.max(axis=0) - exponent  # octaves below the largest of all samples
    octave = np.minimum(below[..., None] + np.arange(DEPTH), DEPTH - 1)
    counts = signatures.counts.astype(np.float64)
    placed = np.zeros_like(counts)
    rows, tensors = np.indices(below.shape)
    np.add.at(placed, (rows[..., None], tensors[..., None], octave), counts)
    energy = placed / np.maximum(placed.sum(axis=2, keepdims=True), 1) * 4.0 ** -np.arange(DEPTH)
    mean = energy.mean(axis=0)
    whole = mean.sum(axis=1, keepdims=True)
    energy /= np.sqrt(np.maximum(mean, TINY * whole) * whole + (whole == 0))
    log = _log2(amax)
    spread = log.std(axis=0)
    log = (log - log.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return np.hstack([_alike(energy.reshape(len(amax), -1)), _alike(log)])


def _alike(features: Float64) -> Float64:
    """Features with a variance of 1 together, so that no kind of them outweighs another."""
    variance = float(features.var(axis=0).sum())
    return features / np.sqrt(variance) if variance else features
