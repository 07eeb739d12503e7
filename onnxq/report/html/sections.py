"""The sections beside graph, nodes and tensors: each from the value it shows, as JSON data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Any

from onnxq.cost.learnt import Learnt
from onnxq.judge.units import UNITS
from onnxq.report.decibels import parts_of
from onnxq.report.engine import KERNELS
from onnxq.report.html.evidence import Document
from onnxq.report.html.numbers import finite
from onnxq.search.result import Result, Trial
from onnxq.sensitivity.ranking import Ranking, Row

Section = dict[str, Any]
AGREEMENT = ("sqnr_db", "psnr_db", "cosine", "mean_abs", "max_abs", "top1_agreement")


def sensitivity(ranking: Ranking) -> Section:
    """Bars of the units, the worst first, and the curve of leaving the worst float."""
    return Section(
        finite(
            {
                "metric": ranking.metric,
                "unit": UNITS.get(ranking.metric, ""),
                "mode": ranking.mode,
                "granularity": ranking.granularity,
                "at": ranking.at,
                "samples": ranking.samples,
                "float_score": ranking.float_score,
                "quantized_score": ranking.quantized_score,
                "rows": [_unit(row) for row in ranking.rows],
                "curve": [list(point) for point in ranking.curve],
            }
        )
    )


def _unit(row: Row) -> dict[str, Any]:
    damage, error = row.overall.damage, row.overall.stderr
    spread = row.share * error / damage if error is not None and damage > 0 else None
    return {
        "name": row.name,
        "op": row.op,
        "nodes": list(row.nodes) if row.nodes != (row.name,) else [],
        "rank": row.rank,
        "tied": row.tied,
        "score": row.overall.score,
        "share": row.share,
        "spread": spread,
        "parts": {part: score.score for part, score in row.parts.items()},
        "macs": row.macs,
        "parameters": row.parameters,
    }


def search(found: Result) -> Section:
    """Points of cost against score; `chosen` is the index of a trial."""
    return Section(
        finite(
            {
                "metric": found.metric,
                "unit": UNITS.get(found.metric, ""),
                "cost": found.cost,
                "budget": found.budget,
                "samples": found.samples,
                "float_score": found.reference,
                "chosen": None if found.chosen is None else found.trials.index(found.chosen),
                "trials": [_trial(trial) for trial in found.trials],
                "learnt": None if found.learnt is None else _learnt(found.learnt),
            }
        )
    )


def _learnt(found: Learnt) -> dict[str, Any]:
    """The device as a cost was fitted to it: where the time of the profile goes, rates, and how far
    off each kernel is, the worst first."""
    return {
        "lines": found.lines(),
        "times": [
            {"name": "nodes of the model", "kernels": found.kernels, "ms": found.nodes_ms},
            {"name": "quantize or dequantize", "kernels": None, "ms": found.converting_ms},
            {"name": "change a layout", "kernels": None, "ms": found.layout_ms},
            {"name": "map to no node, left out", "kernels": found.unmapped_kernels,
             "ms": found.unmapped_ms},
        ],
        "rates": [
            *({"name": f"{name}, 10^12 multiply-accumulates a second", "rate": rate}
              for name, rate in found.tera_macs_s.items()),
            {"name": "bandwidth, GB/s", "rate": found.gb_s},
            {"name": "a kernel at least, us", "rate": 1000 * found.overhead_ms},
        ],
        "errors": [{"name": n, "error": 100 * e} for n, e in found.errors.items()],
    }  # fmt: skip


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "cost": trial.cost,
        "score": trial.score,
        "stderr": trial.stderr,
        "quantized_macs": trial.share,
        "front": trial.front,
        "holds": trial.holds,
        "float": list(trial.floats),
    }


def engine(document: Document, drawn: Container[str] = ()) -> Section:
    """What was built and what it runs, of an `onnxq build` document; of what a kernel holds only
    the nodes that are `drawn`, no Q/DQ."""
    build = document["build"]
    found: Section = {
        "ok": document["ok"],
        "problems": [str(p) for p in document.get("problems", ())],
        "explained": [str(line) for line in document.get("explained", ())],
        "remove": [str(name) for name in document.get("remove", ())],
        "build": {key: build.get(key) for key in ("engine", "bytes", "seconds", "backend",
                                                  "version", "arch")},
    }  # fmt: skip
    if verdict := document.get("verdict"):
        kept = ("readable", "reason", "kernels", "quantize_kernels", "move_kernels", "bytes_moved",
                "meant", "covered")  # fmt: skip
        nodes = verdict["nodes"]
        groups = Counter((n["meant"], n["real"], _kernel(n["kernel"])) for n in nodes.values())
        found["verdict"] = {key: verdict[key] for key in kept}
        found["kinds"] = [
            {"meant": meant, "real": real, "kernel": kernel, "nodes": count}
            for (meant, real, kernel), count in groups.most_common()
        ]
        found["nodes"] = [_run(name, n, drawn) for name, n in nodes.items()]
    if listing := document.get("listing"):
        found["listing"] = [
            {
                "name": k["name"],
                "kind": _kernel(k["kind"]),
                "types": f"{' '.join(k['inputs'])} → {' '.join(k['outputs'])}",
                "layers": [x for x in k["layers"] if x in drawn],
                "bytes": k["traffic"],
                "ms": k.get("ms"),
            }
            for k in listing
        ]
    return Section(finite(found))


def fleet(document: Document) -> Section:
    """What every GPU makes of the model, of an `onnxq build --arch all --json` document."""
    kept = ("arch", "device", "form", "state", "meant", "covered", "kernels", "moved", "why")
    cells = [{key: cell[key] for key in kept} for cell in document["cells"]]
    return Section(finite({"model": document["model"], "ok": document["ok"], "cells": cells}))


def _run(name: str, node: Document, drawn: Container[str]) -> dict[str, Any]:
    return {
        "name": name,
        "meant": node["meant"],
        "real": node["real"],
        "kernel": _kernel(node["kernel"]),
        "fused": [other for other in node["fused_with"] if other in drawn],
        "missed": node["real"] not in (node["meant"], "unknown", "folded", "?"),
        "ms": node.get("ms"),
    }


def _kernel(kind: str | None) -> str:
    return "-" if kind is None else KERNELS.get(kind, kind)


def comparison(document: Document) -> Section:
    """Outputs, and inner tensors in graph order, of an `onnxq compare` document."""
    return Section(
        finite(
            {
                "samples": document["samples"],
                "outputs": _outputs(document),
                "tensors": [
                    {"name": n, "sqnr_db": float(t["sqnr_db"]), "cosine": float(t["cosine"])}
                    | _runs(t)
                    for n, t in document["tensors"].items()
                ],
                "first_offender": document.get("first_offender"),
                "failures": [str(f) for f in document["failures"]],
                "notes": [str(note) for note in document.get("notes", ())],
            }
        )
    )


def _outputs(document: Document) -> list[dict[str, Any]]:
    """A row a part of an output; those compared by equality have no other figure."""
    rows = [_compared(name, figures) for name, figures in parts_of(document).items()]
    return rows + [{"name": name, "equal": e["equal"] / e["values"]}
                   for name, e in document.get("exact", {}).items()]  # fmt: skip


def _compared(name: str, figures: Document) -> dict[str, Any]:
    numbers = {key: float(figures[key]) for key in AGREEMENT if key in figures}
    return {"name": name} | numbers | _runs(figures)


def _runs(figures: Document) -> dict[str, Any]:
    """What computed a tensor and what that ran in, where the layers of an engine tell."""
    if not (runs := figures.get("runs")):
        return {}
    return {"by": str(runs["node"]), "ran": str(runs["precision"]), "ms": runs["ms"],
            "ran_share": runs["share"]}  # fmt: skip


def agreement(manifest: Document) -> Section:
    """The outputs on the samples that were compared on, of a manifest."""
    found = manifest["agreement"]
    return Section(finite({"samples": found["samples"], "outputs": _outputs(found)}))
