"""What `onnxq finetune` brings beside `onnxq quantize`: into docs/finetune.md.

    python benchmarks/finetune.py --shared DIR --cache DIR [--rows resnet20-w4a8-200 ...] [--page]

Both are judged by the task's metric and by SQNR on data that neither was calibrated on, against the
float model; the spread of a metric is over the same samples in both. What was measured is kept in
the cache, row by row; `--page` writes the page from that.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accuracy import figures, float_figures
from cases import CASES, ROOT, Bench, Case, add_places, calibration, onnxq, places, say
from markdown import table

PAGE = ROOT / "docs" / "finetune.md"
BEGINS, ENDS = "<!-- figures begin -->", "<!-- figures end -->"


@dataclass(frozen=True)
class Row:
    """A model, a scheme, how many samples; the steps of a block and the samples of a step (None: by
    default); whether all is polished end to end."""

    name: str
    scheme: str
    samples: int
    steps: int | None = None
    batch: int | None = None
    polish: bool = True

    @property
    def key(self) -> str:
        steps = "" if self.steps is None else f"-{self.steps}"
        return f"{self.name}-{self.scheme}-{self.samples}{steps}"


ROWS = (
    Row("resnet20", "w4a8", 64),
    Row("resnet20", "w4a8", 200),
    Row("resnet20", "w4a8", 100),
    Row("resnet20", "w8a8", 200),
    Row("efficientnet_lite0", "w4a8", 100),
    Row("efficientnet_lite0", "w8a8", 100),
    Row("yolo11n", "w4a8", 64),
    Row("yolo11n", "w8a8", 64),
)


def measured(bench: Bench, case: Case, row: Row, folder: Path) -> dict[str, Any]:
    """The figures of both, and what they took."""
    found: dict[str, Any] = {"samples": row.samples, "scheme": row.scheme, "steps": row.steps,
                             "polish": row.polish}  # fmt: skip
    data = calibration(bench, case)
    for verb in ("quantize", "finetune"):
        out = folder / f"{row.key}.{verb}.onnx"
        learned = verb == "finetune"
        steps = ["--steps", str(row.steps)] if learned and row.steps else []
        steps += ["--batch", str(row.batch)] if learned and row.batch else []
        steps += ["--no-polish"] if learned and not row.polish else []
        say(f"{row.key}: onnxq {verb}")
        took = onnxq(verb, bench.model(case), "--calib", data, "--scheme", row.scheme,
                     "--workers", "1", "-o", out, *steps)  # fmt: skip
        found[verb] = {**figures(bench, case, out), **took}
        said = json.loads(out.with_name(out.name + ".manifest.json").read_text("utf-8"))
        say(f"{row.key}: {verb} {json.dumps(found[verb])}")
        found[verb]["recovered"] = said["recovered"]
    return found


def _cell(case: Case, found: dict[str, Any], which: str) -> str:
    its = found[which]
    if case.detector:
        return f"{its['sqnr_boxes_db']:.1f}, {its['sqnr_classes_db']:.1f}"
    return f"{its['sqnr_db']:.2f}"


def rows_of(kept: dict[str, Any]) -> list[list[str]]:
    """A line a measurement."""
    cases = {case.name: case for case in CASES}
    lines = []
    for key, found in kept.items():
        case = cases[key.split("-")[0]]
        reference = found["float"]
        verbs = ("quantize", "finetune")
        blocks = [b for r in found["finetune"]["recovered"] for b in r.get("blocks", ())]
        steps = max((b["steps"] for b in blocks), default=0)
        lines.append([
            f"{case.title}, {found['scheme']}", str(found["samples"]),
            f"{steps}{'' if found.get('polish', True) else ', not polished'}",
            f"{_cell(case, found, 'quantize')} -> {_cell(case, found, 'finetune')}",
            f"{reference:.2f} {case.metric}",
            *(f"{found[v]['gap']:+.2f} ± {found[v]['gap_error']:.2f}" for v in verbs),
            f"{sum(b['kept'] for b in blocks)} of {len(blocks)}",
            f"{found['finetune']['peak_mb']:.0f}" if "peak_mb" in found["finetune"] else "-",
        ])  # fmt: skip
    return lines


def page(kept: dict[str, Any]) -> None:
    """Write the table into the page."""
    head = ["model, scheme", "samples", "steps", "SQNR dB: quantize -> finetune", "float",
            "quantize", "finetune", "blocks kept", "peak MB"]  # fmt: skip
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGINS)
    after = rest.partition(ENDS)[2]
    made = table(head, rows_of(kept))
    PAGE.write_text(f"{before}{BEGINS}\n\n{made}\n{ENDS}{after}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--rows", nargs="*", choices=[row.key for row in ROWS],
                        default=[row.key for row in ROWS])  # fmt: skip
    parser.add_argument("--steps", type=int, help="of every block, in place of the default")
    parser.add_argument("--batch", type=int, help="samples of a step, in place of the default")
    parser.add_argument("--no-polish", action="store_true", help="blocks alone")
    parser.add_argument("--page", action="store_true", help="write the page from what is kept")
    args = parser.parse_args()
    bench = places(args)
    folder = bench.cache / "finetune"
    folder.mkdir(exist_ok=True)
    cases = {case.name: case for case in CASES}
    for row in (row for row in ROWS if row.key in args.rows and not args.page):
        row = replace(row, steps=args.steps or row.steps, batch=args.batch or row.batch,
                      polish=not args.no_polish)  # fmt: skip
        case = replace(cases[row.name], samples=row.samples)
        figures_of = measured(bench, case, row, folder)
        figures_of["float"] = float_figures(bench, case)["float"]
        (folder / f"{row.key}.json").write_text(json.dumps(figures_of, indent=1), "utf-8")
    found = sorted(p for p in folder.glob("*.json") if "manifest" not in p.name)
    kept = {p.stem: json.loads(p.read_text("utf-8")) for p in found}
    page(kept)


if __name__ == "__main__":
    main()
