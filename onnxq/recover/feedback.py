"""Round a weight so that the error of the op's output is least, not the error of the weight.

With e = Q - W a row of the error and H = sum of x x^T, the error of an output is e H e^T. Factored
as H = M M^T, M upper triangular,

    e H e^T = sum over k of M_kk^2 (e_k + sum over j < k of F_jk e_j)^2      F_jk = M_jk / M_kk

so that the inputs are rounded one after the other, each to what makes up for the errors before it:

    q_k = round((w_k - sum over j < k of F_jk e_j) / s_k)

Inputs that weigh most come first, while others can still make up for them. A row that ends worse
than rounded to nearest is rounded to nearest.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (2022), there with the inverse of H, which gives the same F (Chen et al., "The
Geometry of LLM Quantization", 2025: it is Babai's nearest plane algorithm). Here nothing is
inverted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ml_dtypes import float8_e4m3fn

from onnxq import fp4
from onnxq.arrays import Array
from onnxq.spec import QuantSpec

Rounder = Callable[[Array], Array]
Beside = Callable[[Array, int], Array]  # codes, and 1 or -1

DAMPING = 0.01  # of the mean of the diagonal of H, added to it
AT_ONCE = 128  # inputs between two products of large matrices


def rounder_of(spec: QuantSpec) -> Rounder:
    """What rounds w / s to codes, as `numerics.quantize` does; float64 in and out."""
    low, high = spec.row.qmin, spec.row.qmax

    def integers(x: Array) -> Array:
        return np.clip(np.rint(x), low, high)

    def floats(x: Array) -> Array:
        return np.clip(x, low, high).astype(np.float32).astype(float8_e4m3fn).astype(np.float64)

    def halves(x: Array) -> Array:
        return fp4.rounded(x).astype(np.float64)

    return {"fp8": floats, "fp4": halves}.get(spec.dtype, integers)


def beside_of(spec: QuantSpec) -> Beside:
    """What gives the code above or below each code, where there is one."""
    if spec.dtype == "fp4":
        return fp4.neighbours
    nearest = rounder_of(spec)
    return lambda codes, by: nearest(codes + by)


def error(e: Array, h: Array) -> Array:
    """e H e^T of each row: (groups, N) of (groups, N, K) and (groups, K, K)."""
    return np.asarray(((e @ h) * e).sum(axis=-1))


def rounded(
    w: Array, s: Array, h: Array, rounder: Rounder, factors: tuple[Array, Array] | None = None
) -> Array:
    """Codes of `w` with the least error that is found; (groups, N, K) float64, as all of them.

    s: the scale of each weight. h: (groups, K, K). factors: of `h`, where they are known already.
    """
    nearest = rounder(w / s)
    order, f = factors or factors_of(h)
    at = order[:, None, :]
    found = np.empty_like(w)
    codes = _fed_back(np.take_along_axis(w, at, -1), np.take_along_axis(s, at, -1), f, rounder)
    np.put_along_axis(found, np.broadcast_to(at, w.shape), codes, -1)
    better = error(found * s - w, h) < error(nearest * s - w, h)
    return np.where(better[..., None], found, nearest)


def factors_of(h: Array, damping: float = DAMPING) -> tuple[Array, Array]:
    """(order of the inputs, F in that order): (groups, K) and (groups, K, K)."""
    size = h.shape[-1]
    diagonal = np.diagonal(h, axis1=-2, axis2=-1)
    order = np.argsort(-diagonal, axis=-1, kind="stable")
    h = np.take_along_axis(np.take_along_axis(h, order[:, :, None], 1), order[:, None, :], 2)
    mean = diagonal.mean(axis=-1)[:, None, None]
    mean = np.where(mean > 0, mean, 1.0)
    while True:
        try:
            lower = np.linalg.cholesky((h + damping * mean * np.eye(size))[:, ::-1, ::-1])
            break
        except np.linalg.LinAlgError:  # not positive definite to rounding
            damping = max(10 * damping, 1e-6)
    m = lower[:, ::-1, ::-1]
    return order, m / np.diagonal(m, axis1=-2, axis2=-1)[:, None, :]


def _fed_back(w: Array, s: Array, f: Array, rounder: Rounder) -> Array:
    """Codes of the inputs in the order given, each making up for those before it."""
    codes, e = np.empty_like(w), np.empty_like(w)
    for start in range(0, w.shape[-1], AT_ONCE):
        end = min(start + AT_ONCE, w.shape[-1])
        owed = e[..., :start] @ f[:, :start, start:end]
        for k in range(start, end):
            owed_now = owed[..., k - start] + (e[..., start:k] @ f[:, start:k, k, None])[..., 0]
            codes[..., k] = rounder((w[..., k] - owed_now) / s[..., k])
            e[..., k] = codes[..., k] * s[..., k] - w[..., k]
    return codes
