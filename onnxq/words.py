"""Numbers as people read them."""

from __future__ import annotations

MB = 1e6


def count(n: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def percent(share: float) -> str:
    """A share as a number of percent, without the sign."""
    return f"{100 * share:.4f}" if share == 0 or share >= 1e-6 else f"{100 * share:.1e}"
