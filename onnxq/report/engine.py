"""An engine report as tables: coverage, kernels, and every node that does not run as meant."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from onnxq.table import Table
from onnxq.terminal import line
from onnxq.words import MB

KERNELS = {  # as an engine calls a kernel -> as people do
    "corrltn": "convolution", "fully_connected": "matrix product", "function": "fused ops",
    "runtime_fusion": "fused ops",
}  # fmt: skip


def render(document: dict[str, Any], top: int = 20) -> RenderableType:
    """Tables of an `onnxq build` report (its JSON document)."""
    build, verdict = document["build"], document.get("verdict", {})
    parts: list[RenderableType] = [line(_headline(build))]
    if build["shapes"]:
        said = " ".join(build["shapes"])
        parts.append(line(f"profile of the data that it was quantized with: {said}"))
    if not document["ok"]:
        parts += [line(f"REFUSED {problem}", "red") for problem in document["problems"]]
        parts += [line(f"  {why}") for why in document["explained"]]
        if document.get("remove"):
            parts.append(Text("it builds without these Q/DQ:"))
            parts += [line(f"  {name}") for name in document["remove"]]
    elif not verdict["readable"]:
        parts.append(line(f"what runs in INT8 is unknown: {verdict['reason']}"))
    else:
        parts += _verdict(verdict, top)
    return Group(*parts)


def _headline(build: dict[str, Any]) -> str:
    where = f"{build['backend']} {build['version']} for {build['arch']}"
    if not build["engine"]:
        return where
    return f"{build['engine']}: {build['bytes'] / MB:.2f} MB in {build['seconds']:.1f} s, {where}"


def _kernel(kind: str | None) -> str:
    return "-" if kind is None else KERNELS.get(kind, kind)


def _verdict(verdict: dict[str, Any], top: int) -> list[RenderableType]:
    nodes = verdict["nodes"].items()
    pairs = Counter((n["meant"], n["real"], _kernel(n["kernel"])) for _, n in nodes)
    rows = [(meant, real, kernel, count) for (meant, real, kernel), count in pairs.most_common()]
    moved = verdict["bytes_moved"]
    parts: list[RenderableType] = [
        Text(
            f"{verdict['covered']} of {verdict['meant']} nodes with Q/DQ run as meant; "
            f"{verdict['kernels']} kernels, of them {verdict['quantize_kernels']} only quantize "
            f"and {verdict['move_kernels']} only move data"
            + (f"; {moved / MB:.1f} MB moved" if moved is not None else "")
        ),
        Table("Weighted nodes", ("meant", "runs in", "kernel", "nodes"), rows),
    ]
    wrong = [(name, n["real"]) for name, n in nodes if n["real"] != n["meant"]]
    if wrong:
        parts.append(Table("Not as meant", ("node", "runs in"), wrong[:top]))
    return parts
