"""TensorRT's own layer info in the form of an `onnxq build` document."""

from __future__ import annotations

from onnxq.layers.ran import Ran
from onnxq.layers.reading import TURNS, EngineReading, is_product
from onnxq.report.html.evidence import Document


def of_layers(reading: EngineReading, float_ms: float | None = None) -> Document:
    """What the layers say of nodes that multiply or have Q/DQ, and of each layer, with times where
    there is a profile. float_ms: what the float engine takes, where that is known."""
    runs, covered = reading.runs(), reading.coverage()
    shown = {n: r for n, r in runs.items() if r["meant"] or is_product(n, reading.model)}
    kinds = {t.layer.name: t.layer.kind for t in reading.timed}
    turns = sum(copy.kind in TURNS for copy in reading.copies)
    verdict = {
        "readable": True, "reason": "", "kernels": len(reading.timed), "quantize_kernels": turns,
        "move_kernels": len(reading.copies) - turns, "bytes_moved": None,
        "meant": covered["meant"], "covered": covered["covered"],
        "nodes": {
            name: {"meant": r["meant"] or r["precision"], "real": r["precision"], "ms": r["ms"],
                   "kernel": kinds.get(r["layer"]), "fused_with": list(r["fused_with"])}
            for name, r in shown.items()
        },
    }  # fmt: skip
    listing = [
        {"name": t.layer.name, "kind": t.layer.kind, "inputs": [p.type for p in t.layer.inputs],
         "outputs": [p.type for p in t.layer.outputs], "layers": list(t.said.nodes),
         "traffic": None, "ms": t.ms}
        for t in reading.timed
    ]  # fmt: skip
    build = {"engine": reading.info.path.name, "backend": "TensorRT", "version": "(layer info)"}
    return {"ok": True, "build": build, "verdict": verdict, "listing": listing,
            "total_ms": reading.total_ms, "float_ms": float_ms}  # fmt: skip


def with_runs(comparison: Document, ran: Ran) -> Document:
    """A comparison that was made without the layers of an engine, with what each tensor ran in."""
    found = dict(comparison)
    for kind in ("parts", "outputs", "tensors"):
        entries = comparison.get(kind, {})
        found[kind] = {name: {"runs": ran.of(name)} | entry for name, entry in entries.items()}
    return found
