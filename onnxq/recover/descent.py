"""Codes and scales of a weight, bettered one at a time, the others as they stand.

With e = q s - w a row of the error, H the Gram matrix of its inputs and r = e H, the error e H e^T
is a parabola in each code and in each scale. So the best code of input k, and the best step of a
scale that multiplies the codes u (those of its inputs in all rows that share it, else zero), are

    q_k <- Q(q_k - r_k / (H_kk s_k))          Q: to the nearest code there is
    s   <- s - sum(r u) / sum(u H u^T)

No step raises the error. `feedback` gives each code one look and knows those before it; here each
is looked at again with all others known, which finds what is lower but near: begin with its codes.

Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (2020), for the
objective; there the codes are relaxed and learned by gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.recover.feedback import Beside, Rounder, error

SWEEPS = 8  # over all codes of a weight; most end when no code changes
PAIRED = 64  # inputs up to which codes also change in pairs, which takes K times as long


def descended(
    w: Array, s: Array, codes: Array, h: Array, rounder: Rounder, beside: Beside | None = None
) -> Array:
    """Codes from which no change of a single code lowers the error, or those after `SWEEPS`; of few
    inputs no change of a code by one and another to what is best then.

    w, codes: (groups, N, K) float64. s: the scale of each weight. h: (groups, K, K). beside: the
    codes beside each, by default a step of 1 away.
    """
    beside = beside or (lambda codes, by: rounder(codes + by))
    row = _Rows(codes.copy(), s, (codes * s - w) @ h, h, rounder, beside)
    paired = w.shape[-1] <= PAIRED
    for _ in range(SWEEPS):
        before = row.codes.copy()
        for k in range(w.shape[-1]):
            row.change(k, row.best(k))
            if paired:
                row.pair(k, 1)
                row.pair(k, -1)
        if np.array_equal(before, row.codes):
            break
    return row.codes


@dataclass
class _Rows:
    """Codes as they stand; r = e H: (groups, N, K), of the error e."""

    codes: Array
    s: Array
    r: Array
    h: Array
    rounder: Rounder
    beside: Beside

    def best(self, k: int) -> Array:
        """The best code of input `k` in each row, all others as they are: (groups, N)."""
        weight = np.broadcast_to(self.h[:, k, k, None], self.codes.shape[:2])
        step = _divided(-self.r[..., k], weight * self.s[..., k])
        return np.where(weight > 0, self.rounder(self.codes[..., k] + step), self.codes[..., k])

    def change(self, k: int, codes: Array) -> None:
        """Give input `k` these codes."""
        group, row = np.nonzero(codes != self.codes[..., k])
        if not len(row):
            return
        steps = (codes - self.codes[..., k])[group, row] * self.s[group, row, k]
        self.r[group, row] += steps[:, None] * self.h[group, k]
        self.codes[..., k] = codes

    def pair(self, k: int, by: int) -> None:
        """Change code `k` and the one that then makes up for it best, in rows that gain."""
        mine = self.codes[..., k]
        moved = np.where(self.h[:, k, k, None] > 0, self.beside(mine, by), mine)
        a = (moved - self.codes[..., k]) * self.s[..., k]
        weights = np.diagonal(self.h, axis1=-2, axis2=-1)[:, None, :]
        r = self.r + a[..., None] * self.h[:, k, None, :]
        others = self.rounder(self.codes + _divided(-r, weights * self.s))
        b = (others - self.codes) * self.s
        change = b * (2 * r + b * weights)
        change[..., k] = 0.0
        own = a * (self.r[..., k] + r[..., k])
        partner = change.argmin(axis=-1)
        gain = -(own + np.take_along_axis(change, partner[..., None], -1)[..., 0])
        least = 1e-9 * np.abs(a * r[..., k])  # less is lost in rounding
        group, row = np.nonzero(gain > least)
        if not len(row):
            return
        second = partner[group, row]
        self.r[group, row] = r[group, row] + b[group, row, second][:, None] * self.h[group, second]
        self.codes[group, row, k] = moved[group, row]
        self.codes[group, row, second] = others[group, row, second]


def _divided(x: Array, by: Array) -> Array:
    """x / by, 0 where `by` is."""
    return np.divide(x, by, out=np.zeros(np.broadcast(x, by).shape), where=by > 0)


def rescaled(w: Array, s: Array, codes: Array, h: Array, owner: Array) -> Array:
    """The scale of each weight, bettered for these codes; (groups, N, K).

    owner: which scale each weight has, (groups, N, K) integers. A scale that would not stay above
    zero, or has no codes but zeros, stays as it is.
    """
    s = s.copy()
    r = (codes * s - w) @ h
    count = int(owner.max(initial=0)) + 1
    for inputs, its_h in parts_of(owner, h):
        u, its = codes[..., inputs], owner[..., inputs]
        owners = its[..., 0].ravel()
        power = np.bincount(owners, error(u, its_h).ravel(), count)
        slope = np.bincount(owners, (r[..., inputs] * u).sum(axis=-1).ravel(), count)
        step = np.divide(-slope, power, out=np.zeros(count), where=power > 0)[its]
        step = np.where(s[..., inputs] + step > 0, step, 0.0)
        s[..., inputs] += step
        r += (u * step) @ h[:, inputs]
    return s


def parts_of(owner: Array, h: Array) -> Iterator[tuple[Array | slice, Array]]:
    """The inputs that one scale of a row multiplies, and their Gram matrices (groups, n, n), for
    each scale that a row has."""
    _, part = np.unique(owner[0, 0], return_inverse=True)
    if not part.any():
        yield slice(None), h
        return
    for k in range(part.max() + 1):
        (inputs,) = np.nonzero(part == k)
        yield inputs, h[:, inputs[:, None], inputs]
