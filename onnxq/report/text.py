"""Reports for a terminal: tables that fit 80 columns and pipe cleanly."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from onnxq.calib.enough import Enough
from onnxq.calib.methods import method_name
from onnxq.calib.ranges import Ranges
from onnxq.calib.trt_cache import Mapped
from onnxq.escaping import printable
from onnxq.pipeline.manifest import samples_of
from onnxq.report.decibels import figure, in_db, parts_of
from onnxq.table import Table
from onnxq.terminal import Name, line
from onnxq.words import MB, count, percent

SHOWN, NOTES = 5, 3  # rows of a table, notes of a recovery, that are an excerpt
PAYS = "onnxq search --cost ort finds what pays"
SLOWER = 1.05  # times float: less is noise
KEY = 12  # least width of the words that `pairs` begins lines with
EXACT = "Outputs that are no floats, by equality"
ENDLESS = 100_000  # columns of a pipe


def summary(manifest: Mapping[str, Any], repeat: bool = False) -> RenderableType:
    """What `onnxq quantize` prints at the end: what it cost, what was done, the verdict, and with
    `repeat` the commands that compare again."""
    parts: list[RenderableType] = _agreement(manifest)
    parts.append(nodes_table(manifest["nodes"]))
    parts += _methods(manifest) + _recovered(manifest)
    parts += _notes(manifest) + _clipping(manifest)
    parts.append(_files(manifest))
    parts += _timing(manifest.get("timing"))
    if verdict := manifest.get("verdict"):
        parts += [Text(""), *verdict_lines(verdict)]
    if repeat and manifest.get("repeat"):
        parts.append(Text("\nto repeat the comparison:"))
        # commands to copy: one line each, however long
        parts += [Text(printable(command), no_wrap=True, overflow="ignore")
                  for command in manifest["repeat"]]  # fmt: skip
    return Group(*parts)


def verdict_lines(verdict: Mapping[str, Any]) -> list[RenderableType]:
    """The verdict, and the command to go on with: to copy, so one line, however long."""
    said: list[RenderableType] = [line(f"{verdict['grade']}: {verdict['why']}", "bold")]
    if verdict["next"]:
        said.append(Text(f"next: {printable(verdict['next'])}", no_wrap=True, overflow="ignore"))
    return said


def nodes_table(counts: dict[str, Any]) -> RenderableType:
    """How many nodes are quantized, and why the others are not."""
    kinds = counts["precisions"]
    width = max([len("float"), *(len(kind["precision"]) for kind in kinds)])
    rows = [(f"{k['precision']:{width}}  {k['op']}", k["nodes"]) for k in kinds]
    rows += [(f"{'float':{width}}  {reason}", n) for reason, n in counts["float"].items()]
    nodes = Table("Nodes", ("precision and why", "nodes"), rows)
    if not (floats := counts.get("float_weights")):
        return nodes
    held = [(w["op"], w["nodes"], f"{w['bytes'] / MB:.2f}") for w in floats]
    return Group(nodes, Table("Weights that stay float", ("op", "nodes", "MB"), held))


def _timing(found: Mapping[str, float] | None) -> list[RenderableType]:
    """How long the model takes beside the float one; with a word where it takes longer."""
    if not found:
        return []
    said = (
        f"ONNX Runtime here: {found['quantized_ms']:.3g} ms a sample, float "
        f"{found['float_ms']:.3g}: {found['ratio']:.2f} x"
    )
    if found["ratio"] < SLOWER:
        return [line(said)]
    return [
        line(said),
        line("slower than float; onnxq search --cost ort finds what pays", "yellow"),
    ]


def _agreement(manifest: Mapping[str, Any]) -> list[RenderableType]:
    """How near the outputs are: floats by distance, others by equality; or that none was compared,
    for which the notes have the reasons."""
    found = manifest["agreement"]
    exact = found.get("exact", {})
    scheme = manifest["config"].get("scheme", "w8a8")
    what = "INT8" if scheme == "w8a8" else scheme
    title = f"FP32 against {what}: {samples_of(found)}, ONNX Runtime"
    if not found["outputs"] and not exact:
        why = "no output could be compared" if found["samples"] else "nothing was compared"
        return [Text(f"FP32 against {what}: {why}", style="bold"), Text("")]
    rows = [
        (name, figure(a), f"{a['cosine']:.5f}", a["max_abs"]) for name, a in parts_of(found).items()
    ]
    parts: list[RenderableType] = []
    if rows:
        parts.append(Table(title, ("output", "SQNR dB", "cosine", "max |diff|"), rows))
    if len(rows) > 1 and found.get("headline"):
        worst = found["headline"]
        parts += [line(f"the worst: {worst['part']}, {in_db(worst)}", "bold"), Text("")]
    return parts + ([exact_table(title if not rows else EXACT, exact)] if exact else [])


def exact_table(title: str, exact: dict[str, Any]) -> RenderableType:
    """The outputs that are compared by equality."""
    rows = [(n, f"{100 * e['equal'] / e['values']:.2f}", e["values"]) for n, e in exact.items()]
    return Table(title, ("output", "equal %", "values"), rows)


def _methods(manifest: Mapping[str, Any]) -> list[RenderableType]:
    """The mean SQNR of every method that `auto` tried, best first."""
    tried = sorted(manifest.get("auto", {}).items(), key=lambda item: -item[1])
    rows = [(name, f"{score:.2f}") for name, score in tried]
    return (
        [Table("Methods tried; the first was taken", ("method", "SQNR dB"), rows)] if tried else []
    )


def _recovered(manifest: Mapping[str, Any]) -> list[RenderableType]:
    """What each recovery did, and what it brought at the outputs on the samples that judged it."""
    lines: list[RenderableType] = []
    for found in manifest.get("recovered", ()):
        kept, left = len(found["gain_db"]), len(found["undone"])
        noun = "block" if "blocks" in found else "node"
        if kept + left:
            scores = [f"{s['before']:.2f} -> {s['after']:.2f}" for s in found["sqnr_db"].values()]
            more = ", ..." if len(scores) > SHOWN else ""
            gained = (
                f", {', '.join(scores[:SHOWN])}{more} dB on the samples that judged it"
                if kept
                else ""
            )
            lines.append(
                line(f"{found['algorithm']}: {kept} of {count(kept + left, noun)}{gained}")
            )
        notes = found.get("notes", ())
        lines += [line(f"  {note}") for note in notes[:NOTES]]
        if len(notes) > NOTES:
            lines.append(Text(f"  and {len(notes) - NOTES} more in the manifest"))
    return [*lines, Text("")] if lines else []


def blocks_table(manifest: Mapping[str, Any]) -> RenderableType:
    """What was learned of each block, on samples that judge."""
    blocks = [b for found in manifest.get("recovered", ()) for b in found.get("blocks", ())]
    rows = [
        (b["block"], b["steps"], f"{b['before']:.2f}", f"{b['after']:.2f}",
         "kept" if b["kept"] else "undone")
        for b in blocks
    ]  # fmt: skip
    return Table("Blocks, dB on samples that judge", ("block", "steps", "before", "after", ""),
                 rows)  # fmt: skip


def _notes(manifest: Mapping[str, Any]) -> list[RenderableType]:
    notes = [line(f"note: {note}", "yellow") for note in manifest.get("notes", ())]
    return [*notes, Text("")] if notes else []


def _clipping(manifest: Mapping[str, Any]) -> list[RenderableType]:
    """The tensors with the largest share of clipped values; nothing where none clips."""
    clipped = [(n, r) for n, r in manifest["tensors"].items() if float(r["sat_ratio"]) > 0]
    worst = sorted(clipped, key=lambda item: -item[1]["sat_ratio"])[:SHOWN]
    rows = [(n, r["amax"], percent(r["sat_ratio"])) for n, r in worst]
    title = f"Most clipping, of {count(len(clipped), 'tensor')} that clip"
    return [Table(title, ("tensor", "amax", "clipped %"), rows)] if rows else []


def ranges_table(ranges: Ranges, samples: int) -> RenderableType:
    """Every range, in the order of the graph's names."""
    rows = [(name, r.amax, percent(r.sat_ratio)) for name, r in ranges.tensors.items()]
    methods = ", ".join(sorted({method_name(r.method) for r in ranges.tensors.values()}))
    title = f"Ranges of {count(len(rows), 'tensor')} from {count(samples, 'sample')} by {methods}"
    return Table(title, ("tensor", "amax", "clipped %"), rows)


def cache_table(found: Mapped, counted: Collection[str]) -> RenderableType:
    """Every range out of a calibration cache, with the name that it has there."""
    rows = [
        (name, found.names.get(name, "the same"), r.amax)
        for name, r in found.ranges.tensors.items()
    ]
    table = Table(f"Ranges of {count(len(rows), 'tensor')} from a calibration cache",
                  ("tensor", "name in the cache", "amax"), rows, names=2)  # fmt: skip
    unused = count(len(found.unused), "entry", "entries")
    said = f"{unused} of the cache for tensors that need no range"
    if counted:
        said += f"; {count(len(counted), 'tensor')} that it lacks counted from the data"
    return Group(table, line(said))


def enough_table(enough: Enough) -> RenderableType:
    """What twice the data would change, tensor by tensor, and in a line whether they do."""
    return Group(enough.table(), line(enough.line()))


def _files(manifest: Mapping[str, Any]) -> Text:
    model, out = manifest["model"], manifest["output"]
    times = ", ".join(f"{k} {v:.1f} s" for k, v in manifest["seconds"].items() if v >= 0.05)
    sizes = f"{model['bytes'] / MB:.2f} MB -> {out['path']} {out['bytes'] / MB:.2f} MB"
    return Text("\n".join(filter(None, (printable(f"{model['path']} {sizes}"), times))))


def pairs(rows: Iterable[tuple[str, object]]) -> RenderableType:
    """Lines of a word and what it says; long ones go on under their beginning."""
    made = Grid.grid(padding=(0, 2))
    made.add_column(min_width=KEY)
    made.add_column()
    for key, value in rows:
        made.add_row(Text(f"  {key}"), Name(str(value)))
    return made


def show(renderable: RenderableType) -> None:
    """Print to stdout, as wide as the terminal; into a pipe or a file as wide as the rows are, or
    `COLUMNS`, so that a row is a line and a name can be searched for."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=ENDLESS)
    if console.is_terminal:
        console.print(renderable, crop=False)
        return
    with console.capture() as captured:
        console.print(renderable, crop=False)
    lines = [row.rstrip() for row in captured.get().split("\n")[:-1]]
    sys.stdout.write("\n".join([*lines, ""]))
