"""The figures of performance.py as Markdown: bars, a table a model, other quantizers."""

from __future__ import annotations

from typing import Any

from bars import NAMES, Results, sensitivity_ratio, timed
from cases import CASES, Case
from markdown import Row, table
from quiet import IDLE

TITLES = {case.name: case.title for case in CASES}
FRONT = {
    "quantize": "**onnxq**",
    "Model Optimizer, INT8, entropy": "Model Optimizer",
    "ONNX Runtime, INT8, entropy": "ONNX Runtime, INT8 entropy",
    "ONNX Runtime, INT8, minmax": "ONNX Runtime, INT8 minmax",
    "ONNX Runtime, UINT8, minmax": "ONNX Runtime, its defaults",
    "onnxsim, UINT8, mse": "onnxsim",
}
PARTS = {"start": "Start", "rows": "100,000 rows of 32 features", "prepare": "10,000 nodes"}


def times(found: Results) -> str:
    """Everything that was timed, the bars first."""
    parts = [
        bars_table(found),
        *(_of_case(case, found[case.name]["time"]) for case in _with(found, "time")),
    ]
    whole = found.get("whole", {})
    parts += [_section(title, whole[part]) for part, title in PARTS.items() if part in whole]
    if ranked := _with(found, "sensitivity"):
        parts.append(_ranked([(case, found[case.name]["sensitivity"]) for case in ranked]))
    return "\n".join(parts)


def bars_table(found: Results) -> str:
    """Every bar with pass or miss, those missed first."""
    bars = sorted(timed(found, TITLES), key=lambda bar: bar.passed)
    rows = [
        ["pass" if bar.passed else "**miss**", bar.model, bar.asked, bar.measured] for bar in bars
    ]
    return table(["", "", "asked", "measured"], rows)


def quantizers(found: Results) -> str:
    """Other quantizers beside ours, over the same samples in the same run: whole processes."""
    rows = []
    for case in _with(found, "time"):
        time = found[case.name]["time"]
        for way, scored in time.get("scored", {}).items():
            figures, plain = time["ways"][way], time["ways"]["plain"]
            name = f"`onnxq {way}`" if way.startswith("quantize") else way
            share = figures["wall_s"] / plain["inference_s"]
            rows.append([case.title, name, f"{figures['wall_s']:.1f}", f"{share:.1f}",
                         f"{figures['peak_mb'] / plain['peak_mb']:.1f}",
                         *_reached(case, time, scored)])  # fmt: skip
    head = ["model", "", "s", "/ plain", "memory / plain", "SQNR dB", "metric", "float", "test"]
    return table(head, rows)


def front(found: Results) -> str:
    """The few rows that a reader wants to see first, as the README has them."""
    rows = []
    for case in _with(found, "time"):
        time = found[case.name]["time"]
        for way, name in FRONT.items():
            scored = time.get("scored", {}).get(way, {})
            if "builds" not in scored:
                continue
            figures, plain = time["ways"][way], time["ways"]["plain"]
            sqnr, metric, _, _ = _reached(case, time, scored)
            loss = f"{scored['gap']:+.2f} {metric}" if "gap" in scored else "-"
            rows.append([case.title, name, f"{figures['wall_s'] / plain['inference_s']:.1f} x",
                         f"{figures['peak_mb']:.0f} MB", sqnr, loss,
                         "yes" if scored["builds"] else "**no**"])  # fmt: skip
    head = ["model", "quantizer", "time / plain inference", "peak memory", "SQNR dB",
            "against float", "TensorRT builds it"]  # fmt: skip
    alone = len({row[0] for row in rows}) == 1  # the text names the model then
    return table(head[alone:], [row[alone:] for row in rows])


def _reached(case: Case, time: dict[str, Any], scored: dict[str, float]) -> Row:
    sqnr = " / ".join(f"{v:.1f}" for k, v in scored.items() if k.startswith("sqnr"))
    if "metric" not in scored:
        return [sqnr, "-", "-", "-"]
    error = f" ± {scored['gap_error']:.2f}" if "gap_error" in scored else ""
    return [sqnr, NAMES[case.metric or ""], f"{time['float']:.2f}",
            f"{scored['metric']:.2f}{error}"]  # fmt: skip


def _with(found: Results, part: str) -> list[Case]:
    return [case for case in CASES if part in found.get(case.name, {})]


def _of_case(case: Case, found: dict[str, Any]) -> str:
    stages = ", ".join(f"{stage} {s:.2f}" for stage, s in found["stages"].items())
    title = f"{case.title}, {found['samples']} samples"
    return f"{_section(title, found)}\nSeconds of `quantize` by stage: {stages}.\n"


def _section(title: str, found: dict[str, Any]) -> str:
    """A table of the ways; whoever has a start of its own is told without it too."""
    ways = found["ways"]
    plain = ways.get("plain")
    rows = []
    for way, figures in ways.items():
        row = [way, f"{figures['wall_s']:.2f}", f"{figures['cpu_s']:.2f}"]
        more = [k for k in figures if k.endswith("_s") and k not in ("wall_s", "cpu_s")]
        row.append("; ".join(f"{k.removesuffix('_s')} {figures[k]:.3f}" for k in more))
        if plain is not None:
            start = ways.get(f"start of {way}")
            seconds = figures["wall_s"] - start["wall_s"] if start else figures.get("inference_s")
            row.append("" if seconds is None else f"{seconds / plain['inference_s']:.2f}")
            row.append(f"{figures['peak_mb'] / plain['peak_mb']:.2f}")
        rows.append([*row, f"{figures['peak_mb']:.0f}"])
    beside = ["less start / inference", "memory / plain"] if plain is not None else []
    head = ["", "wall s", "CPU s", "of it, s", *beside, "peak MB"]
    others = f"; others took {found['others']:.0%} of the processors"
    return f"**{title}**{others if found['others'] > IDLE else ''}\n\n{table(head, rows)}"


def _ranked(found: list[tuple[Case, dict[str, Any]]]) -> str:
    head = ["sensitivity", "nodes", "samples", "/ (nodes x plain)", "others took",
            "dB from `--whole`", "its order", "five worst of all", "correlation"]  # fmt: skip
    rows = [
        [case.title, str(f["nodes"]), str(f["samples"]), f"{sensitivity_ratio(f):.2f}",
         f"{f['others']:.0%}", f"{f['apart_db']:.2g}", "same" if f["same_order"] else "differs",
         "same" if f["same_worst"] else "differ", f"{f['correlation']:.3f}"]
        for case, f in found
    ]  # fmt: skip
    return table(head, rows)
