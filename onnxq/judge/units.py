"""What metrics are called, and counted in, where people read them."""

from __future__ import annotations

UNITS = {"sqnr": "dB", "top1": "%"}
LABELS = {"sqnr": "SQNR, dB", "top1": "top-1, %"}


def with_unit(text: str, metric: str) -> str:
    """A score of a metric, or its name, with the unit behind it if there is one."""
    return f"{text} {UNITS[metric]}" if metric in UNITS else text


def label(metric: str) -> str:
    """A metric with its unit, as an axis or a column says it."""
    return LABELS.get(metric, metric)
