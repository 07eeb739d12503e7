"""The sections of the page on schemes, recoveries and 4-bit weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bars import NAMES, Results
from cases import Case
from markdown import Row, table

from onnxq.schemes import SCHEMES

KNOWN = ("samples", "float")  # keys of a part that are no variants
HEAD = ["model", "variant", "metric", "float", "quantized", "difference", "SQNR dB"]


def recoveries(results: Results, cases: list[Case]) -> str:
    """INT8 with no recovery, the default and all."""
    rows = [row for case in cases for row in _rows(results, case, "recoveries")]
    text = (
        "`--recover none`, the default (bias correction) and `all` (equalize, smooth, scales,\n"
        "round, bias), each undone where held-out calibration samples say that it hurts.\n\n"
    )
    return text + table(HEAD, rows) if rows else ""


def four_bits(results: Results, cases: list[Case]) -> str:
    """4-bit weights."""
    rows = [row for case in cases for row in _rows(results, case, "four_bits")]
    text = "Those of Conv per channel; of MatMul and Gemm in blocks where said.\n\n"
    return text + table(HEAD, rows) if rows else ""


def schemes(results: Results, cases: list[Case]) -> str:
    """Every scheme: accuracy, size, who runs it, who builds it."""
    head = [*HEAD, "MB", "ONNX Runtime", "TensorRT-RTX", "weighted ops run in"]
    rows = []
    for case in cases:
        found = results[case.name].get("schemes") or {}
        for name, row in _pairs(results, case, "schemes"):
            entry = found[name]
            if "error" in entry:
                rows.append([*row, "-", f"no: {entry['error']}", "-", "-"])
                continue
            rows.append([*row, f"{entry['bytes'] / 1e6:.2f}", "runs", *_engine(name, entry)])
    about = "".join(f"- `{s.name}`: {s.about}\n" for s in SCHEMES.values())
    text = f"Calibrated on 32 samples, with the default recovery.\n\n{about}\n"
    return text + table(head, rows) if rows else ""


def _engine(name: str, entry: dict[str, Any]) -> list[str]:
    if "tensorrt" not in SCHEMES[name].targets:
        return ["refused before the calibration", "-"]
    engine = entry.get("engine")
    if engine is None:
        return ["not measured", "-"]
    if not engine["builds"]:
        return [f"no: {engine['error']}", "-"]
    ran = engine.get("ran")
    return ["builds", ", ".join(f"{n} {kind}" for kind, n in ran.items()) if ran else "unknown"]


def _rows(results: Results, case: Case, part: str) -> Iterator[Row]:
    for _, row in _pairs(results, case, part):
        yield row


def _pairs(results: Results, case: Case, part: str) -> Iterator[tuple[str, Row]]:
    found = results[case.name].get(part) or {}
    for name, entry in found.items():
        if name in KNOWN:
            continue
        row = [case.title, name, NAMES.get(case.metric or "", "-")]
        if "error" in entry:
            yield name, [*row, "-", "-", "-", entry["error"]]
            continue
        yield name, [*row, *_metric(found, entry), _sqnr(case, entry)]


def _metric(found: dict[str, Any], entry: dict[str, Any]) -> Row:
    if "metric" not in entry:
        return ["-", "-", "-"]
    gap = f"{entry['metric'] - found['float']:+.2f}"
    if "gap_error" in entry:
        gap += f" ± {entry['gap_error']:.2f}"
    return [f"{found['float']:.2f}", f"{entry['metric']:.2f}", gap]


def _sqnr(case: Case, entry: dict[str, Any]) -> str:
    if case.detector:
        return f"{entry['sqnr_boxes_db']:.1f} / {entry['sqnr_classes_db']:.1f}"
    return f"{entry['sqnr_db']:.2f}"
