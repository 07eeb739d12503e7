"""Reports for a terminal: tables that fit 80 columns and pipe cleanly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxq.calib.ranges import Ranges

MB = 1e6


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """A plain table; a column whose name ends in a unit or is a figure is right-aligned."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    names = list(columns)
    for i, name in enumerate(names):
        made.add_column(
            name, justify="left" if i == 0 else "right", overflow="fold", ratio=None if i else 1
        )
    for row in rows:
        made.add_row(*(Text(_cell(value)) for value in row))
    return made


def _cell(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def summary(manifest: dict[str, Any]) -> RenderableType:
    """What `onnxq quantize` prints at the end."""
    parts: list[RenderableType] = [nodes_table(manifest["nodes"])]
    if manifest.get("agreement"):
        parts.append(_agreement(manifest))
    parts.append(_clipping(manifest))
    for note in manifest.get("notes", ()):
        parts.append(Text(f"note: {note}", style="yellow"))
    parts.append(_files(manifest))
    return Group(*parts)


def nodes_table(counts: dict[str, Any]) -> Table:
    """How many nodes are quantized, and why the others are not."""
    rows: list[tuple[str, object]] = [
        (f"INT8   {op}", count) for op, count in counts["quantized"].items()
    ]
    rows += [(f"float  {reason}", count) for reason, count in counts["float"].items()]
    return table("Nodes", ("precision and why", "nodes"), rows)


def _agreement(manifest: dict[str, Any]) -> Table:
    found = manifest["agreement"]
    title = f"FP32 against INT8, {found['samples']} held-out samples, ONNX Runtime"
    rows = [
        (name, f"{a['sqnr_db']:.2f}", f"{a['cosine']:.5f}", a["max_abs"])
        for name, a in found["outputs"].items()
    ]
    return table(title, ("output", "SQNR dB", "cosine", "max |diff|"), rows)


def _clipping(manifest: dict[str, Any]) -> Table:
    ranges = manifest["tensors"].items()
    worst = sorted(ranges, key=lambda item: -item[1]["sat_ratio"])[:5]
    rows = [(n, r["amax"], f"{100 * r['sat_ratio']:.4f}", r["method"]) for n, r in worst]
    return table("Most clipping", ("tensor", "amax", "clipped %", "method"), rows)


def ranges_table(ranges: Ranges, samples: int) -> Table:
    """Every range, in the order of the graph's names."""
    rows = [
        (name, r.amax, f"{100 * r.sat_ratio:.4f}", r.method) for name, r in ranges.tensors.items()
    ]
    title = f"Ranges of {len(rows)} tensors from {samples} samples"
    return table(title, ("tensor", "amax", "clipped %", "method"), rows)


def _files(manifest: dict[str, Any]) -> Text:
    model, out = manifest["model"], manifest["output"]
    times = ", ".join(f"{k} {v:.1f} s" for k, v in manifest["seconds"].items() if v >= 0.05)
    lines = [
        f"{model['path']} {model['bytes'] / MB:.2f} MB -> {out['path']} {out['bytes'] / MB:.2f} MB",
        times,
    ]
    if manifest.get("repeat"):
        lines += ["to repeat the comparison:", *(f"  {line}" for line in manifest["repeat"])]
    return Text("\n".join(lines))


def show(renderable: RenderableType) -> None:
    """Print to stdout; 80 columns where it is not a terminal, never cutting a name."""
    console = Console(soft_wrap=False)
    console.print(renderable)
