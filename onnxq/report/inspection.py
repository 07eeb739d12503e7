"""`onnxq inspect` for a terminal: a model, a node or a tensor, from the documents of `inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from onnxq.escaping import printable
from onnxq.report.text import pairs
from onnxq.table import Table
from onnxq.terminal import line
from onnxq.words import count, percent

SHOWN = 3  # tensors of one scale that are named

Document = Mapping[str, Any]
RUNS = ("runs in", "ms", "share %")


def model_text(found: Document, everything: bool = False) -> RenderableType:
    """Coverage by op type, what stayed float and why, and the nodes; `everything`: all of them."""
    nodes = found["nodes"]
    concerned = [n for n in nodes if n["quantized"] or n["weighted"]]
    parts: list[RenderableType] = [_head(found), _coverage(found["coverage"], everything)]
    floats = Counter(n["why"] for n in concerned if not n["quantized"])
    if floats:
        rows = floats.most_common()
        parts.append(Table("Left float, of the ops with weights", ("why", "nodes"), rows))
    shown = nodes if everything else concerned
    parts.append(nodes_text(shown))
    if len(shown) < len(nodes):
        parts.append(Text(f"and {count(len(nodes) - len(shown), 'node')} that nothing quantizes "
                          "(--all lists them)"))  # fmt: skip
    return Group(*parts)


def nodes_text(nodes: Iterable[Document]) -> RenderableType:
    """One line a node: its precision, and the scale of the activation it reads."""
    nodes = list(nodes)
    rows: list[tuple[str, ...]] = [
        (_named(n), n["precision"], _scale(n["scale"]), _share(n["sat_ratio"])) for n in nodes
    ]
    columns: tuple[str, ...] = ("node", "precision", "input scale", "clips %")
    if any("runs" in n for n in nodes):
        columns += RUNS
        rows = [(*row, *runs_cells(n.get("runs"))) for row, n in zip(rows, nodes, strict=True)]
    return Table("Nodes", columns, rows)


def runs_cells(runs: Document | None) -> tuple[str, str, str]:
    """What a node ran in, its time and its share of it."""
    if runs is None:
        return "-", "-", "-"
    share = runs["share"]
    return runs["precision"], _ms(runs["ms"]), "-" if share is None else f"{100 * share:.1f}"


def _ms(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:.4f}"


def _ran(runs: Document | None) -> list[tuple[str, str]]:
    """What there is to say of how one node ran."""
    if runs is None:
        return [("runs in", "the layers do not tell")]
    precision, ms, share = runs_cells(runs)
    time = "" if ms == "-" else f", {ms} ms of {_ms(runs['layer_ms'])} ms of its layer, {share}%"
    rows = [("runs in", f"{precision}{time}"), ("layer", runs["layer"])]
    if runs["fused_with"]:
        rows.append(("fused with", ", ".join(runs["fused_with"])))
    if runs["conversions"]:
        took = "" if runs["conversion_ms"] is None else f", {_ms(runs['conversion_ms'])} ms"
        rows.append(("for its sake", f"{count(runs['conversions'], 'conversion')}{took}"))
    return rows


def node_text(found: Document) -> RenderableType:
    """One node: why, what it reads and writes, its neighbours."""
    head = [("precision", found["precision"]), ("why", found["why"]),
            ("source", found["reasons"]["note"])]  # fmt: skip
    head += _ran(found["runs"]) if "runs" in found else []
    head += [(name, f"gained {gain:g} dB here") for name, gain in found["recovered"].items()]
    parts = [
        Text.assemble((printable(found["op"]), "bold"), printable(f" {found['name']}")),
        pairs(head),
    ]
    for read in found["inputs"]:
        entry = read["quantized"]
        name = read["tensor"] if entry is None else entry["name"]
        parts.append(Text.assemble("\n", (f"input {read['index']}", "bold"), printable(f" {name}")))
        what = "constant" if read["constant"] else _from(read["written_by"])
        as_it_is = [("as it is", f"{read['type']}, {what}")]
        parts.append(pairs(as_it_is if entry is None else _quantized(entry)))
    for written in found["outputs"]:
        parts.append(Text.assemble("\n", ("writes", "bold"), printable(f" {written['tensor']}")))
        specs = [f"{e['spec']}, scale {_scale(e['scale'])}" for e in written["quantized"]]
        parts.append(pairs([("read as", text) for text in specs or ["it is: not quantized"]]))
    around = [("before", name) for name in found["before"] or ["an input of the model"]]
    around += [("after", name) for name in found["after"] or ["an output of the model"]]
    return Group(*parts, Text(""), pairs(around))


def tensor_text(found: Document) -> RenderableType:
    """One tensor: who writes and reads it, and how it is quantized."""
    rows = [("written by", found["written_by"] or "no node: an input or a constant")]
    rows += [("read by", name) for name in found["read_by"]]
    parts: list[RenderableType] = [line(found["tensor"], "bold"), pairs(rows)]
    parts += [pairs(_quantized(entry)) for entry in found["quantized"]]
    if not found["quantized"]:
        parts.append(pairs([("as it is", "no node reads it quantized")]))
    return Group(*parts)


def tensors_text(found: Iterable[Document]) -> RenderableType:
    """One line for each way in which a tensor is quantized."""
    rows = []
    for tensor in found:
        for entry in tensor["quantized"] or [None]:
            if entry is None:
                rows.append((tensor["tensor"], "as it is", "", ""))
            else:
                rows.append((tensor["tensor"], entry["spec"], _scale(entry["scale"]),
                             _share(entry["sat_ratio"])))  # fmt: skip
    return Table("Tensors", ("tensor", "quantized", "scale", "clips %"), rows)


def _head(found: Document) -> RenderableType:
    model, nodes = found["model"], found["nodes"]
    tool = model["producer"]
    if model["onnxq_version"]:
        tool = f"onnxq {model['onnxq_version']}"
    written = f", written by {tool}" if tool else ""
    quantized = sum(n["quantized"] for n in nodes)
    return Group(
        line(model["path"], "bold"),
        line(f"opset {model['opset']}{written}; {quantized} of {count(len(nodes), 'node')} "
             "quantized"),
        line(f"reasons: {found['reasons']['note']}"),
        Text(""),
    )  # fmt: skip


def _coverage(rows: Iterable[Document], everything: bool) -> RenderableType:
    """By op type; the types without weights that nothing quantizes are one row."""
    shown, others = [], Counter[str]()
    for row in rows:
        if everything or row["quantized"] or row["weighted"]:
            shown.append(_coverage_row(row["op"], row["nodes"], row["quantized"],
                                       row["precisions"]))  # fmt: skip
        else:
            others.update(row["precisions"])
    if others:
        shown.append(_coverage_row("other ops", others.total(), 0, dict(others.most_common())))
    return Table("Coverage", ("op", "nodes", "quantized", "precisions"), shown)


def _coverage_row(
    op: str, nodes: int, quantized: int, precisions: Mapping[str, int]
) -> tuple[object, ...]:
    return op, nodes, quantized, ", ".join(f"{name} {n}" for name, n in precisions.items())


def _quantized(entry: Document) -> list[tuple[str, object]]:
    """What there is to say of a quantized tensor."""
    held = "" if entry["amax"] is None else f", holds up to {entry['amax']:.5g}"
    if entry["low"] is not None:
        held = f", holds {entry['low']:.5g} to {entry['high']:.5g}"
    zero = entry["zero_point"]
    offset = "" if zero == 0 else f", zero point {zero if isinstance(zero, int) else 'per channel'}"
    stored = "" if entry["storage"] == entry["type"] else f", stored as {entry['storage']}"
    rows: list[tuple[str, object]] = [
        ("quantized", f"{entry['kind']}, {entry['spec']}{stored}"),
        ("scale", f"{_scale(entry['scale'])}{offset}{held}"),
        ("from", entry["origin"]),
    ]
    if entry["sat_ratio"] is not None:
        error = entry["expected_error"]
        more = "" if error is None else f"; expected mean squared error {error:.3g}"
        rows.append(("clips", f"{percent(entry['sat_ratio'])} % of its values{more}"))
    elif entry["kind"] == "activation":
        rows.append(("clips", "not known without a manifest; --calib DATA measures it"))
    if entry["codes_at_end"] is not None:
        rows.append(("at the ends", f"{percent(entry['codes_at_end'])} % of its codes"))
    if same := entry["same_scale"]:
        others = entry["same_scale_count"] - SHOWN
        more = f" and {others} more" if others > 0 else ""
        rows.append(("same scale", f"{', '.join(same[:SHOWN])}{more}"))
    return rows


def _named(node: Document) -> str:
    """A node's name, with its op type where the name does not say it."""
    name, op = str(node["name"]), str(node["op"])
    return name if op.lower() in name.lower() else f"{name} ({op})"


def _from(writer: str | None) -> str:
    return f"written by {writer}" if writer else "an input of the model"


def _scale(scale: Any) -> str:
    """One scale, or the least and the largest of several."""
    if scale is None:
        return "-"
    values = np.asarray(scale)
    if not values.ndim:
        return f"{float(values):.5g}"
    return f"{values.min():.4g} to {values.max():.4g} ({values.size})"


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else percent(ratio)
