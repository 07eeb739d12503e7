"""A comparison as tables: outputs, then inner tensors with the worst first."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group, RenderableType

from onnxq.report.text import EXACT, exact_table
from onnxq.table import Table
from onnxq.terminal import line
from onnxq.words import count

COLUMNS = ("output", "SQNR dB", "PSNR dB", "cosine", "mean |d|", "max |d|", "top-1 %")


def render(document: dict[str, Any], top: int) -> RenderableType:
    """Tables of a `Comparison.as_dict()`; `top` inner tensors are shown."""
    title = f"Outputs over {count(document['samples'], 'sample')}"
    parts: list[RenderableType] = []
    if document["outputs"]:
        parts.append(Table(title, COLUMNS, [_row(n, t) for n, t in document["outputs"].items()]))
    if document["exact"]:
        heading = EXACT if document["outputs"] else title
        parts.append(exact_table(heading, document["exact"]))
    if not parts:
        parts.append(line(f"{title}: no output could be compared", "bold"))
    parts += [line(f"note: {note}", "yellow") for note in document["notes"]]
    if document["tensors"]:
        worst = sorted(document["tensors"].items(), key=lambda item: _order(item[1]["sqnr_db"]))
        rows = [(n, f"{t['sqnr_db']:.2f}", f"{t['cosine']:.5f}") for n, t in worst[:top]]
        parts.append(Table("Inner tensors, worst first", ("tensor", "SQNR dB", "cosine"), rows))
        parts.append(line(f"largest drop in graph order: {document['first_offender']}"))
    parts += [line(f"FAILED {failure}", "red") for failure in document["failures"]]
    return Group(*parts)


def _order(decibels: float) -> float:
    return -math.inf if math.isnan(decibels) else decibels


def _row(name: str, t: dict[str, float]) -> tuple[object, ...]:
    return (
        name,
        f"{t['sqnr_db']:.2f}",
        f"{t['psnr_db']:.2f}",
        f"{t['cosine']:.5f}",
        f"{t['mean_abs']:.3g}",
        f"{t['max_abs']:.3g}",
        f"{100 * t['top1_agreement']:.1f}" if "top1_agreement" in t else "-",
    )
