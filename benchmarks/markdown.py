"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable

Row = list[str]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table, or nothing without rows."""
    body = [f"| {' | '.join(row)} |" for row in rows]
    if not body:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *body, ""])
