"""What an engine's layer info and profile say, as tables."""

from __future__ import annotations

from collections import defaultdict

from rich.console import Group as Parts
from rich.console import RenderableType

from onnxq.cost.learnt import Paying
from onnxq.layers.advice import costs
from onnxq.layers.against import EngineComparison, Group
from onnxq.layers.info import DETAILED
from onnxq.layers.reading import EngineReading
from onnxq.table import Table
from onnxq.terminal import line
from onnxq.words import count

SHOWN = 3  # names in a cell


def render(reading: EngineReading, top: int) -> RenderableType:
    """Tables of one engine, `top` rows each."""
    return Parts(line(headline(reading)), *_coverage(reading), *_costs(reading, top),
                 *_copies(reading, top), *_residuals(reading, top), *_hidden(reading))  # fmt: skip


def headline(reading: EngineReading) -> str:
    """One line: layers and time."""
    layers = count(len(reading.timed), "layer")
    if reading.total_ms is None:
        return f"{layers}; no times (--profile)"
    lost = f"; {reading.lost_ms:.4f} ms of it in no layer of the file" if reading.lost_ms else ""
    return f"{reading.total_ms:.4f} ms in {layers}{lost}"


def _coverage(reading: EngineReading) -> list[RenderableType]:
    found = reading.coverage()
    types: dict[str, float] = defaultdict(float)
    for t in reading.weighted:
        types[t.layer.precision] += t.ms or 0
    rows = [
        (kind, n, *_time(types[kind], reading.total_ms)) for kind, n in found["precisions"].items()
    ]
    parts: list[RenderableType] = []
    if rows:
        title = "Layers that multiply by weights"
        parts.append(Table(title, ("runs in", "layers", "ms", "share %"), rows))
    if found["meant"]:
        unknown = f"; of {found['unknown']} nobody can tell" if found["unknown"] else ""
        parts.append(line(f"{found['covered']} of {found['meant']} nodes with Q/DQ run as meant"
                          f"{unknown}"))  # fmt: skip
    elif found["meant"] == 0:
        parts.append(line("the model asks for no Q/DQ at a weighted node"))
    return parts


def _costs(reading: EngineReading, top: int) -> list[RenderableType]:
    rows = [
        (_names(c.nodes) or c.layer, c.change, c.precision, f"{c.ms:.4f}", f"{100 * c.share:.1f}")
        for c in costs(reading, top)
    ]
    columns = ("nodes", "what to change", "runs in", "ms", "share %")
    return [Table("What takes longest", columns, rows, names=2)] if rows else []


def _copies(reading: EngineReading, top: int) -> list[RenderableType]:
    copies = sorted(reading.copies, key=lambda c: -(c.ms or 0))
    if not copies:
        return []
    title = f"{count(len(copies), 'kernel')} that only convert a tensor"
    if reading.total_ms is not None:
        ms = sum(c.ms or 0 for c in copies)
        title += f", {ms:.4f} ms, {100 * ms / reading.total_ms:.1f}%"
    rows = [
        (c.tensor, _names(c.cause), c.kind, f"{c.before} -> {c.after}", _ms(c.ms))
        for c in copies[:top]
    ]
    return [Table(title, ("tensor", "for", "what", "from -> to", "ms"), rows, names=2)]


def _residuals(reading: EngineReading, top: int) -> list[RenderableType]:
    rows = [
        (r.node, r.skip, r.out, _ms(r.layer_ms), _ms(r.copy_ms)) for r in reading.residuals[:top]
    ]
    columns = ("Add", "adds", "writes", "its layer ms", "converting ms")
    return [Table("Residual Adds", columns, rows)] if rows else []


def _hidden(reading: EngineReading) -> list[RenderableType]:
    if not reading.info.detailed:
        said = f"the file has names alone: types are unknown; write it with {DETAILED}"
        return [line(said, "yellow")]
    hidden = reading.hidden
    if not hidden:
        return []
    ms = "" if reading.total_ms is None else f", {sum(t.ms or 0 for t in hidden):.4f} ms"
    return [line(f"{count(len(hidden), 'layer')}{ms}: the file does not say which nodes they run")]


def render_paying(found: Paying, top: int) -> RenderableType:
    """Whether few bits pay, in a line, and block by block."""
    pays = found.learnt.pays
    ranked = sorted(pays.blocks, key=lambda b: b.float_ms - b.quantized_ms)
    rows = [
        (_span(b.nodes), f"{b.float_ms:.4f}", f"{b.quantized_ms:.4f}",
         f"{b.quantized_ms - b.float_ms:+.4f}", "pays" if b.pays else pays.high)
        for b in ranked[:top]
    ]  # fmt: skip
    columns = ("block", f"{pays.high} ms", "quantized ms", "change", "")
    lines = [line(text) for text in found.learnt.lines()] if pays.predicted else [
        line(pays.headline)
    ]  # fmt: skip
    return Parts(*lines, Table("Blocks, the least gain first", columns, rows))


def _span(nodes: tuple[str, ...]) -> str:
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} to {nodes[-1]}"


def render_comparison(found: EngineComparison, top: int) -> RenderableType:
    """Tables of two engines, the largest changes first."""
    a, b = found.a, found.b
    said = [
        line(f"A {a.info.path.name}: {headline(a)}"),
        line(f"B {b.info.path.name}: {headline(b)}"),
    ]
    if found.by == "geometry":
        said.append(line("names differ: products are matched by what they multiply"))
    rows = [
        (_names(g.nodes), g.why or "-", f"{g.a.ms:.4f}", f"{g.b.ms:.4f}", f"{g.change_ms:+.4f}")
        for g in found.groups[:top]
    ]
    columns = ("nodes", "what differs", "A ms", "B ms", "change")
    table = Table("What changed most", columns, rows, names=2)
    return Parts(*said, table, *_verdict(found))


def _verdict(found: EngineComparison) -> list[RenderableType]:
    ratio = found.speedup
    said = f"B takes {1 / ratio:.2f} of A's time" if ratio else "B takes no time"
    slower: list[Group] = [g for g in found.groups if set(g.nodes) & set(found.slower)]
    if not slower:
        return [line(said)]
    ms = sum(g.change_ms for g in slower)
    return [
        line(f"{said}; {count(len(found.slower), 'node')} in fewer bits {_takes(found.slower)} "
             f"{ms:.4f} ms longer: leave them float (--write-skip FILE; quantize --skip @FILE)")
    ]  # fmt: skip


def _takes(names: list[str]) -> str:
    return "takes" if len(names) == 1 else "take"


def _names(nodes: tuple[str, ...]) -> str:
    more = f" and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
    return ", ".join(nodes[:SHOWN]) + more


def _ms(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:.4f}"


def _time(ms: float, total: float | None) -> tuple[str, str]:
    return ("-", "-") if not total else (f"{ms:.4f}", f"{100 * ms / total:.1f}")
