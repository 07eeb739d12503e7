"""Numbers as people read them."""

from __future__ import annotations

import math

MB = 1e6


def count(n: int, noun: str, several: str = "") -> str:
    """`1 node`, `2 nodes`; several: the plural where it is no mere s."""
    return f"1 {noun}" if n == 1 else f"{n} {several or f'{noun}s'}"


def percent(share: float) -> str:
    """A share as a number of percent, without the sign; "?" where nobody counted."""
    if math.isnan(share):
        return "?"
    return f"{100 * share:.4f}" if share == 0 or share >= 1e-6 else f"{100 * share:.1e}"
