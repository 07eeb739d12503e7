"""What a notebook shows of a value: a heading and small tables in HTML.

The values call these from `_repr_html_`, and import this module only then. Every name that comes
from a model is escaped; a table shows the first rows and says how many more there are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Protocol

from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.judge.accuracy import Agreement, Agreements
from onnxq.model.graph import Graph, Tensor, within
from onnxq.pipeline.source import Source
from onnxq.plan import Plan
from onnxq.report.figure import metric_label
from onnxq.search.result import Result
from onnxq.sensitivity.ranking import Ranking

SHOWN = 12  # rows of a table

Row = Sequence[object]


class Outcome(Protocol):
    """What is shown of `api.Quantized`."""

    @property
    def graph(self) -> Graph: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def ranges(self) -> Ranges: ...
    @property
    def agreement(self) -> Agreements: ...


def source(value: Source) -> str:
    """Inputs, outputs and op types of a graph."""
    nodes = list(within(value.graph.nodes))
    ops = Counter(node.op for node in nodes).most_common()
    ends = [("input", t) for t in value.graph.inputs] + [("output", t) for t in value.graph.outputs]
    return _page(
        f"{value.path.name}: {len(nodes)} nodes, opset {value.graph.opset}",
        _table(("", "name", "shape", "type"), [(kind, t.name, _shape(t), _dtype(t))
                                               for kind, t in ends], names=2),
        _table(("op", "nodes"), ops),
        *(f"<p>{escape(note)}</p>" for note in value.notes),
    )  # fmt: skip


def _shape(tensor: Tensor) -> str:
    return "?" if tensor.shape is None else " × ".join(map(str, tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return "?" if tensor.dtype is None else str(getattr(tensor.dtype, "__name__", tensor.dtype))


def plan(value: Plan) -> str:
    """What is quantized how by which rule, and what stays float and why."""
    kinds = Counter((value.precision(n), value.rules.get(n, "")) for n in value.nodes)
    rows = [(what, rule, count) for (what, rule), count in kinds.most_common()]
    reasons = Counter(value.skipped.values()).most_common()
    return _page(
        f"Plan for {value.target}: {len(value.nodes)} nodes quantized, {len(value.skipped)} float",
        _table(("precision", "rule", "nodes"), rows, names=2),
        _table(("float because", "nodes"), reasons) if reasons else "",
    )


def stats(value: Stats) -> str:
    """What was counted of each tensor, the widest first."""
    widest = sorted(value.histograms.items(), key=lambda item: -item[1].amax)
    rows = [
        (name, f"{h.count:,}", h.min, h.max, _percent(h.zeros / h.count if h.count else 0.0))
        for name, h in widest
    ]
    heading = f"Statistics of {len(rows)} tensors over {value.samples} samples"
    return _page(heading, _table(("tensor", "values", "min", "max", "zero %"), rows))


def ranges(value: Ranges) -> str:
    """The range of each tensor, those that clip most first."""
    rows = [
        (name, r.amax, _percent(r.sat_ratio), r.expected_error, r.method)
        for name, r in sorted(value.tensors.items(), key=lambda item: -item[1].sat_ratio)
    ]
    columns = ("tensor", "amax", "clipped %", "expected error", "method")
    return _page(f"Ranges of {len(rows)} tensors", _table(columns, rows))


def agreement(value: Agreement) -> str:
    """How near an output is to the float model's."""
    return _page("", _agreements({"": value}))


def _agreements(outputs: Mapping[str, Agreement]) -> str:
    rows = [
        (name, f"{a.sqnr_db:.2f}", f"{a.cosine:.5f}", a.abs_max, a.mean_abs)
        for name, a in outputs.items()
    ]
    return _table(("output", "SQNR, dB", "cosine", "max |diff|", "mean |diff|"), rows)


def _beside(found: Agreements) -> list[str]:
    """What to say beside the table of float outputs."""
    lines = [*found.equal_lines(), *found.notes()]
    return lines if found or found.exact else ["no output was compared", *lines]


def ranking(value: Ranking) -> str:
    """The worst units."""
    rows = [
        (f"{r.rank}{'=' if r.tied else ''}", r.name, r.op, r.overall.score, f"{100 * r.share:.1f}")
        for r in value.rows
    ]
    columns = ("rank", value.granularity, "op", metric_label(value.metric), "share of damage, %")
    heading = f"{len(rows)} units by {value.mode}, {value.samples} samples"
    return _page(heading, _table(columns, rows, names=3))


def search_result(value: Result) -> str:
    """The plans that were measured, by rising cost."""
    rows = [
        (
            "chosen" if t is value.chosen else "front" if t.front else "",
            f"{t.cost:.3f}",
            len(t.floats),
            f"{t.score:.5g}" + (f" ± {t.stderr:.2g}" if t.stderr else ""),
            "yes" if t.holds else "no",
        )
        for t in value.trials
    ]
    columns = ("plan", f"cost ({value.cost})", "float", metric_label(value.metric), "holds")
    heading = f"{len(rows)} plans for a {value.budget}, {value.samples} samples"
    return _page(heading, _table(columns, rows))


def quantized(value: Outcome) -> str:
    """How near the outputs are, what is quantized, what clips."""
    return _page(
        "Quantized",
        _agreements(value.agreement) if value.agreement else "",
        *(f"<p>{escape(line)}</p>" for line in _beside(value.agreement)),
        plan(value.plan),
        f"<details><summary>ranges</summary>{ranges(value.ranges)}</details>",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"


def _page(heading: str, *parts: str) -> str:
    head = f"<strong>{escape(heading)}</strong>" if heading else ""
    return f"<div>{head}{''.join(parts)}</div>"


def _table(columns: Sequence[str], rows: Iterable[Row], names: int = 1) -> str:
    """A table whose first `names` columns are text, left-aligned; the rest are numbers."""
    every = list(rows)
    body = [_line("td", row, names) for row in every[:SHOWN]]
    if len(every) > SHOWN:
        more = f"and {len(every) - SHOWN} more"
        body.append(f'<tr><td colspan="{len(columns)}">{more}</td></tr>')
    head = _line("th", columns, names)
    return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"


def _line(tag: str, cells: Row, names: int) -> str:
    sides = ("left" if i < names else "right" for i in range(len(cells)))
    made = (
        f'<{tag} style="text-align:{side}">{escape(_text(cell))}</{tag}>'
        for side, cell in zip(sides, cells, strict=True)
    )
    return f"<tr>{''.join(made)}</tr>"


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.4g}" if math.isfinite(cell) else str(cell)
    return str(cell)
