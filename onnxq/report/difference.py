"""`onnxq diff` for a terminal: placement first, then scales, weights and constants by change."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from onnxq.inspect.difference import MISSING, Difference, ScaleChange
from onnxq.report.decibels import in_db
from onnxq.table import Table
from onnxq.terminal import line
from onnxq.words import count, percent


def render(found: Difference, top: int) -> RenderableType:
    """Tables with at most `top` rows each, after what differs in a line."""
    parts: list[RenderableType] = [
        line(f"A: {found.a}"), line(f"B: {found.b}"), Text(_summary(found)), Text("")
    ]  # fmt: skip
    parts += _placement(found, top)
    activations = [c for c in found.scales if c.kind == "activation"]
    weights = [c for c in found.scales if c.kind != "activation"]
    parts += _activations(activations, top) + _weights(weights, top) + _constants(found, top)
    for pair, outputs in found.effect.items():
        rows = [(name, f"{a.sqnr_db:.2f}", f"{a.cosine:.5f}", a.as_dict()["max_abs"])
                for name, a in outputs.judged.items()]  # fmt: skip
        lines = [*found.lines(pair)]
        parts.append(
            Table(pair, ("output", "SQNR dB", "cosine", "max |diff|"), rows)
            if rows
            else line(pair if lines else f"{pair}: no output was compared", "bold")
        )
        if len(rows) > 1 and outputs.headline is not None:
            worst = outputs.headline
            parts.append(line(f"the worst: {worst.part}, {in_db(worst.as_dict())}", "bold"))
        parts += [line(text) for text in lines]
    return Group(*parts)


def _summary(found: Difference) -> str:
    if found.equal:
        return (f"equal: {count(found.compared['nodes'], 'node')}, "
                f"{count(found.compared['tensors'], 'quantized tensor')} and "
                f"{count(found.compared['constants'], 'constant')} compared")  # fmt: skip
    missing = sum(MISSING in (p.a, p.b) for p in found.placement)
    placed = len({p.node for p in found.placement if MISSING not in (p.a, p.b)})
    tensors, constants = found.compared["tensors"], found.compared["constants"]
    parts = [
        f"{placed} of {count(found.compared['nodes'], 'node')} in another precision",
        f"{len(found.scales)} of {count(tensors, 'tensor')} with other numbers",
        f"{len(found.constants)} of {count(constants, 'constant')} changed",
    ]
    return "; ".join(parts + ([f"{count(missing, 'node')} in one model only"] if missing else []))


def _placement(found: Difference, top: int) -> list[RenderableType]:
    rows = [
        (p.node if p.input is None else f"{p.node} input {p.input}", p.a, p.b)
        for p in found.placement
    ]
    return _excerpt("Placement", ("node", "A", "B"), rows, top)


def _activations(changes: Sequence[ScaleChange], top: int) -> list[RenderableType]:
    moved = any(c.zero_points for c in changes)
    rows = []
    for c in changes:
        zeros = f"{c.zero_points[0]:g} -> {c.zero_points[1]:g}" if c.zero_points else "-"
        rows.append((c.tensor, c.a, c.b, f"{c.change_db:+.2f}", *([zeros] if moved else [])))
    columns = ("tensor", "scale A", "scale B", "change dB", *(["zero point"] if moved else []))
    return _excerpt("Activations", columns, rows, top)


def _weights(changes: Sequence[ScaleChange], top: int) -> list[RenderableType]:
    rows = [
        (
            c.tensor,
            f"{c.change_db:+.2f}",
            "-" if c.codes_changed is None else percent(c.codes_changed),
            "-" if c.sqnr_db is None else f"{c.sqnr_db:.2f}",
        )
        for c in changes
    ]
    columns = ("weight", "scale dB", "codes %", "SQNR dB")
    return _excerpt("Weights: largest change of a scale, codes changed, SQNR", columns, rows, top)


def _constants(found: Difference, top: int) -> list[RenderableType]:
    rows = [(f"{c.node} input {c.input}", f"{c.sqnr_db:.2f}", c.largest) for c in found.constants]
    return _excerpt("Constants", ("constant", "SQNR dB", "max |diff|"), rows, top)


def _excerpt(
    title: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]], top: int
) -> list[RenderableType]:
    """A table of the first rows, and how many more there are; nothing without rows."""
    if not rows:
        return []
    more = f" (the first {top} of {len(rows)})" if len(rows) > top else ""
    return [Table(title + more, columns, rows[:top])]
