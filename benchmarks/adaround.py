"""What `--recover adaround,bias` makes of 4-bit weights beside `round,bias`: into docs/recovery.md.

    python benchmarks/adaround.py --shared DIR --minilm FILE --cache DIR [--models resnet20 ...]
    python benchmarks/adaround.py --page      # the page alone, from what the cache has

Scored on samples that nobody calibrated on. What `adaround` gains is a mean over samples with its
standard error, both models on the same samples; pairs in which it gains least come first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import Outputs, reference, run, score, sqnr_db
from cases import CASES, ROOT, Bench, Case, add_places, places, quantized, say
from markdown import table

PAGE = ROOT / "docs" / "recovery.md"
BEGINS, ENDS = "<!-- adaround begins -->", "<!-- adaround ends -->"
SCHEMES = ("w4a8", "w4a16")
SIDES = {"round": "round,bias", "adaround": "adaround,bias"}
WANTED = 1.0  # dB
Found = dict[str, Any]


def parts_of(case: Case) -> dict[str, Callable[[Outputs], Outputs]]:
    """What is compared apart: of a detector boxes and scores, else all."""
    if case.detector:
        return {"boxes": lambda o: o[:, 0, :4], "scores": lambda o: o[:, 0, 4:]}
    return {"": lambda o: o}


def measured(bench: Bench, case: Case, scheme: str) -> Found:
    """Of both sides dB, metric and seconds; by how many dB a sample gains, on the average."""
    ref = reference(bench, case)
    found: Found = {"samples": len(ref), "gain": {}}
    outputs: dict[str, Outputs] = {}
    for side, recover in SIDES.items():
        model = quantized(bench, case, "--scheme", scheme, "--recover", recover)
        outputs[side] = run(bench, case, model.path)
        found[side] = {
            "db": {n: sqnr_db(of(ref), of(outputs[side])) for n, of in parts_of(case).items()},
            "metric": score(bench, case, outputs[side])[0] if case.metric else None,
            "seconds": model.manifest["seconds"]["recover"],
            "changed": _changed(model.manifest["recovered"]),
        }
    for name, of in parts_of(case).items():
        before, after = (_each(of(ref), of(outputs[side])) for side in SIDES)
        gain = after - before
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        found["gain"][name] = [float(gain.mean()), error]
    return found


def _changed(recovered: list[Found]) -> str:
    """What was kept of each recovery: nodes of those that it looked at."""
    return ", ".join(
        f"{r['algorithm']} {len(r['gain_db'])}/{len(r['gain_db']) + len(r['undone'])}"
        for r in recovered
    )


def _each(ref: Outputs, test: Outputs) -> Outputs:
    """The SQNR of every sample that has a signal, in dB."""
    rows = [(r, t) for r, t in zip(ref, test, strict=True) if np.any(r)]
    return np.array([sqnr_db(r[None], t[None]) for r, t in rows], np.float32)


def page(found: dict[str, Found], cases: dict[str, Case]) -> str:
    """The table, the least gain first."""
    rows = []
    for key, pair in found.items():
        name, scheme = key.split()
        case = cases[name]
        for part, (gain, error) in pair["gain"].items():
            both = [pair[side] for side in SIDES]
            db, metric, seconds = (
                [b["db"][part] for b in both],
                [b["metric"] for b in both],
                [b["seconds"] for b in both],
            )
            said = f"{metric[0]:.2f} -> {metric[1]:.2f}" if case.metric else "-"
            rows.append((gain, [
                f"{case.title}{part and f', {part}'}", scheme, f"{gain:+.2f} ± {error:.2f}",
                f"{db[0]:.2f} -> {db[1]:.2f}", case.metric or "-", said,
                f"{seconds[0]:.0f} -> {seconds[1]:.0f}", str(pair["samples"]),
            ]))  # fmt: skip
    rows.sort(key=lambda row: row[0])
    missed = sum(gain < WANTED for gain, _ in rows)
    head = ["model", "scheme", "dB a sample", "dB in all", "metric", "its value",
            "seconds of recovery", "samples"]  # fmt: skip
    said = f"Less than {WANTED:g} dB: {missed} of {len(rows)} rows, which come first."
    return f"{said}\n\n{table(head, [cells for _, cells in rows])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    cases = {case.name: case for case in CASES}
    parser.add_argument("--models", nargs="*", default=list(cases), choices=list(cases))
    parser.add_argument("--schemes", nargs="*", default=SCHEMES, choices=SCHEMES)
    parser.add_argument("--page", action="store_true", help="write the page from what is kept")
    args = parser.parse_args()
    bench = places(args)
    kept = bench.cache / "adaround.json"
    for name in () if args.page else args.models:
        if why := bench.missing(cases[name]):
            say(f"{cases[name].title}: not measured: {why}")
            continue
        for scheme in args.schemes:
            pair = measured(bench, cases[name], scheme)
            say(f"{name} {scheme}: {json.dumps(pair)}")
            found = read(kept) | {f"{name} {scheme}": pair}
            kept.write_text(json.dumps(found, indent=1), "utf-8")
    write(PAGE, page(read(kept), cases))


def read(kept: Path) -> dict[str, Found]:
    """What was measured so far."""
    found: dict[str, Found] = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    return found


def write(path: Path, text: str) -> None:
    """Put the text between the marks of a page."""
    head, _, rest = path.read_text("utf-8").partition(BEGINS)
    path.write_text(f"{head}{BEGINS}\n\n{text}\n{ENDS}{rest.partition(ENDS)[2]}", "utf-8")


if __name__ == "__main__":
    main()
