"""A comparison as tables: outputs, then inner tensors with the worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from onnxq.report.decibels import figure, in_db, parts_of
from onnxq.report.inspection import RUNS, runs_cells
from onnxq.report.text import EXACT, exact_table
from onnxq.table import Table
from onnxq.terminal import line
from onnxq.words import count

COLUMNS = ("output", "SQNR dB", "PSNR dB", "cosine", "mean |d|", "max |d|")
TOP = "top-1 %"


def render(document: dict[str, Any], top: int) -> RenderableType:
    """Tables of a `Comparison.as_dict()`; `top` inner tensors are shown."""
    title = f"Outputs over {count(document['samples'], 'sample')}"
    parts: list[RenderableType] = []
    if document["outputs"]:
        parts += _outputs(title, parts_of(document), document.get("headline"))
    if document["exact"]:
        heading = EXACT if document["outputs"] else title
        parts.append(exact_table(heading, document["exact"]))
    if not parts:
        parts.append(line(f"{title}: no output could be compared", "bold"))
    if document.get("metric"):
        parts.append(line(_scores(document["metric"]), "bold"))
    if document["along"]:
        parts.append(_along(document["along"]))
    parts += [line(f"note: {note}", "yellow") for note in document["notes"]]
    if document["tensors"]:
        worst = sorted(document["tensors"].items(), key=lambda item: _order(item[1]["sqnr_db"]))
        rows = [(n, f"{t['sqnr_db']:.2f}", f"{t['cosine']:.5f}", *_runs(t)) for n, t in worst[:top]]
        columns = ("tensor", "SQNR dB", "cosine", *_heads(document["tensors"]))
        parts.append(Table("Inner tensors, worst first", columns, rows))
        parts.append(line(f"largest drop in graph order: {document['first_offender']}"))
    parts += [line(f"FAILED {failure}", "red") for failure in document["failures"]]
    return Group(*parts)


def _order(decibels: float) -> float:
    return -math.inf if math.isnan(decibels) else decibels


def _outputs(
    title: str, found: Mapping[str, Any], headline: Mapping[str, Any] | None
) -> list[RenderableType]:
    """The parts of the outputs, and which is the worst; top-1 only of what is rows of classes."""
    classes = any("top1_agreement" in t for t in found.values())
    rows = [(*_row(name, t, classes), *_runs(t)) for name, t in found.items()]
    columns = (*COLUMNS, *([TOP] if classes else []), *_heads(found))
    parts: list[RenderableType] = [Table(title, columns, rows)]
    if len(rows) > 1 and headline:
        parts += [line(f"the worst: {headline['part']}, {in_db(headline)}", "bold"), Text("")]
    return parts


def _heads(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns of what ran, where the layers of an engine were given."""
    return ("computed by", *RUNS) if any("runs" in t for t in found.values()) else ()


def _runs(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if "runs" not in entry:
        return ()
    runs = entry["runs"]
    return ("-" if runs is None else runs["node"], *runs_cells(runs))


def _scores(found: Mapping[str, Any]) -> str:
    """What the user's metric says of both models."""
    sides = []
    for side in ("float", "quantized"):
        error = found.get(f"{side}_stderr")
        sides.append(f"{side} {found[side]:.5g}" + ("" if error is None else f" ± {error:.2g}"))
    return f"{found['metric']}: {', '.join(sides)}"


def _along(found: Mapping[str, Any]) -> Table:
    """How the error grows along sequences, each model fed back its own states."""
    steps = max(part["steps"] for part in found.values())
    rows = [
        (name, figure({"sqnr_db": t["first_db"]}), figure({"sqnr_db": t["last_db"]}))
        for name, t in found.items()
    ]
    return Table(f"Along sequences of up to {steps} samples, fed back their own states",
                 ("output", "first dB", "last dB"), rows)  # fmt: skip


def _row(name: str, t: Mapping[str, float], classes: bool) -> tuple[object, ...]:
    top = f"{100 * t['top1_agreement']:.1f}" if "top1_agreement" in t else "-"
    return (
        name,
        figure(t),
        f"{t['psnr_db']:.2f}",
        f"{t['cosine']:.5f}",
        f"{t['mean_abs']:.3g}",
        f"{t['max_abs']:.3g}",
        *([top] if classes else []),
    )
