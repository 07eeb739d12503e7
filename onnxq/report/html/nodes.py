"""The rows of the table of nodes: what each is, why, and what it costs, as far as it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxq.inspect.reading import NodeReading, Read
from onnxq.inspect.tensors import QuantizedTensor
from onnxq.report.html.edges import shape_text
from onnxq.report.html.evidence import Evidence
from onnxq.report.html.numbers import brief, finite
from onnxq.report.html.tensors import Known

Row = dict[str, Any]
KINDS = (("INT4", "int4"), ("FP4", "int4"), ("FP8", "fp8"), ("INT16", "int16"), ("Q8.8", "int16"))
FLOAT, NONE = "float", "none"  # left float although it could be quantized; nothing to quantize


@dataclass(frozen=True)
class NodeFacts:
    """What is known of nodes by name.

    shares: of the damage, an equal part of its unit's where a unit has several nodes. units: of
    those the unit. errors: measured SQNR in dB of a tensor. engine: what runs.
    """

    shares: Mapping[str, float]
    units: Mapping[str, str]
    scores: Mapping[str, float]
    errors: Mapping[str, float]
    engine: Mapping[str, Mapping[str, Any]]


def facts_of(evidence: Evidence) -> NodeFacts:
    """What rankings, comparisons and engines say of nodes and tensors."""
    rows = evidence.ranking.rows if evidence.ranking else ()
    compared = evidence.comparison or {}
    tensors = {**compared.get("tensors", {}), **compared.get("outputs", {})}
    return NodeFacts(
        {name: row.share / len(row.nodes) for row in rows for name in row.nodes},
        {name: row.name for row in rows for name in row.nodes if len(row.nodes) > 1},
        {row.nodes[0]: row.overall.score for row in rows if len(row.nodes) == 1},
        {name: float(t["sqnr_db"]) for name, t in tensors.items()},
        (evidence.engine or {}).get("verdict", {}).get("nodes", {}),
    )


def node_rows(evidence: Evidence, facts: NodeFacts, known: Known) -> list[Row]:
    """A row for every node, in graph order; what is not known is left out of it."""
    return [_row(node, evidence, facts, known) for node in evidence.reading.nodes]


def _row(node: NodeReading, evidence: Evidence, facts: NodeFacts, known: Known) -> Row:
    grids = [g for g in node.grids if g.kind == "activation"]
    places = [p for g in grids if (p := known.place(g)) is not None]
    quality = [known.sqnr[p] for p in places if p in known.sqnr]
    errors = [facts.errors[t] for t in node.outputs if t in facts.errors]
    ranges = [r for g in grids if (r := evidence.reasons.range_of(g)) is not None]
    engine = facts.engine.get(node.name, {})
    found: Row = {
        "name": node.name,
        "op": node.op,
        "precision": "INT8 attributes" if _has_attributes(node, evidence) else node.precision,
        "kind": kind_of(node, evidence),
        "why": _why(node, evidence),
        "told": evidence.reasons.why(node),
        "scale": _scale(grids),
        "weight_scale": _scale([g for g in node.grids if g.kind == "weight"]),
        "sat_ratio": max((s for r in ranges if (s := float(r["sat_ratio"])) >= 0), default=None),
        "input_sqnr": min(quality, default=None),
        "weight_sqnr": evidence.weights.get(node.name),
        "node_sqnr": min(errors, default=None),
        "share": facts.shares.get(node.name),
        "unit": facts.units.get(node.name),
        "score": facts.scores.get(node.name),
        "engine": engine.get("real"),
        "meant": engine.get("meant"),
        "ms": engine.get("ms"),
        "fused": [n for n in engine.get("fused_with", ()) if n in evidence.reading.by_name],
        "reads": [_read(r, r.quantized, known) for r in node.inputs if r.quantized],
        "outputs": list(node.outputs),
        "shape": shape_text([t for t in node.node.outputs if not t.is_empty()]),
    }
    return {key: finite(v) for key, v in found.items() if v not in (None, [], "") or key == "why"}


def _why(node: NodeReading, evidence: Evidence) -> str:
    """The rule or the reason, in as few words as there are; `told` has them all."""
    reasons = evidence.reasons
    return reasons.quantized.get(node.name) or reasons.left.get(node.name) or ""


def kind_of(node: NodeReading, evidence: Evidence) -> str:
    """The class of a node's precision, which is its colour: int8, int4, fp8, int16, float, none."""
    if node.quantized:
        return next((kind for mark, kind in KINDS if mark in node.precision), "int8")
    if _has_attributes(node, evidence):
        return "int8"
    return FLOAT if node.weighted or node.name in evidence.reasons.left else NONE


def _has_attributes(node: NodeReading, evidence: Evidence) -> bool:
    """Whether the ranges of a node are in its attributes."""
    rule = evidence.reasons.quantized.get(node.name, "")
    return evidence.reasons.source == "manifest" and rule.startswith("attribute")


def _scale(grids: list[QuantizedTensor]) -> list[float] | None:
    """Least and largest scale."""
    scales = [g.scale for g in grids if g.scale is not None and g.scale.size]
    if not scales:
        return None
    return [brief(min(float(s.min()) for s in scales)), brief(max(float(s.max()) for s in scales))]


def _read(read: Read, grid: QuantizedTensor, known: Known) -> dict[str, Any]:
    found = {
        "input": read.index,
        "tensor": grid.name,
        "kind": grid.kind,
        "type": grid.label,
        "scale": _scale([grid]),
        "scales": 0 if grid.scale is None else int(grid.scale.size),
        "place": known.place(grid) if grid.kind == "activation" else None,
    }
    return {key: value for key, value in found.items() if value is not None}
