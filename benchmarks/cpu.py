"""What ONNX Runtime runs on a CPU: FP32, its own static quantization, and `--target onnxruntime`.

    python benchmarks/cpu.py --shared DIR [--models NAME,NAME] [--write docs/onnxruntime.md]

Theirs is onnxruntime.quantization.quantize_static with its defaults for a CPU (see peers.py), with
MinMax. Both see the same calibration samples. Each model has one session with default options; the
three take turns sample by sample, and a time ratio is the median of the ratios within a turn. Exits
with 1 where a bar is missed: ours is as fast as theirs (but for noise), faster than FP32, and
nearer to the float outputs.
(This file cannot be called onnxruntime.py: its neighbours import that.)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from accuracy import figures
from cases import CASES, Bench, Case, add_places, feeds, peer, places, quantized, say
from peers import ORT
from quiet import Meter, wait_for_quiet

TARGET = ("--target", "onnxruntime")
BARRED = ("efficientnet_lite0", "yolo11n")
NOISE = 1.03  # two sessions of one model differ by that much
SAMPLES, WARM = 8, 5  # different inputs in turn; turns that are not counted
HEADER = (
    "| model | FP32 | ONNX Runtime's own | ours | ours / its own | ours / FP32 | SQNR: its own | "
    "ours | metric: float | its own | ours |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the median turn, and medians of the ratios of ours within a turn."""

    plain: float
    theirs: float | None
    ours: float
    to_theirs: float | None
    to_plain: float


def their_model(bench: Bench, case: Case) -> Path | None:
    """The model by ONNX Runtime's own quantizer, kept in the cache; None where it fails."""
    out = bench.cache / f"{case.name}.ort-static.onnx"
    if not out.is_file():
        say(f"{case.title}: ONNX Runtime's quantize_static")
        try:
            peer(ORT["ONNX Runtime, UINT8, minmax"], bench, case, out)
            _session(out)
        except Exception as e:  # whatever it stumbles over
            say(f"{case.title}: it fails: {str(e).splitlines()[-1]}")
            out.unlink(missing_ok=True)
            return None
    return out


def _session(model: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def timing(bench: Bench, case: Case, models: list[Path | None], turns: int) -> Timing:
    """The models [float, theirs or None, ours] run in turn, one sample each."""
    sessions = [_session(m) if m else None for m in models]
    names = [i.name for i in sessions[0].get_inputs()]
    samples = [
        {n: np.ascontiguousarray(f[n]) for n in names} if isinstance(f, dict) else {names[0]: f}
        for f in islice(feeds(bench, case, "val"), SAMPLES)
    ]
    wait_for_quiet()
    meter = Meter()
    seconds = np.full((turns, len(sessions)), np.nan)
    for turn in range(-WARM, turns):
        feed = samples[turn % len(samples)]
        for k in range(len(sessions)):
            i = (turn + k) % len(sessions)  # nobody always runs behind the same one
            session = sessions[i]
            if session is not None:
                start = time.perf_counter()
                session.run(None, feed)
                if turn >= 0:
                    seconds[turn, i] = time.perf_counter() - start
    if meter.others() > 0.1:
        say(f"{case.title}: other processes took {meter.others():.0%} of the machine")
    ms = 1e3 * np.median(seconds, axis=0)
    plain, theirs, ours = seconds.T
    has = models[1] is not None
    return Timing(
        float(ms[0]),
        float(ms[1]) if has else None,
        float(ms[2]),
        float(np.median(ours / theirs)) if has else None,
        float(np.median(ours / plain)),
    )


def sqnr(found: dict[str, float] | None) -> dict[str, float]:
    """The SQNRs among the figures of a model: one, or those of boxes and of classes."""
    return {k: v for k, v in (found or {}).items() if k.startswith("sqnr")}


def missed(
    case: Case, t: Timing, theirs: dict[str, float], ours: dict[str, float]
) -> Iterator[str]:
    """The bars that a model misses, in words."""
    if t.to_theirs is not None and t.to_theirs > NOISE:
        yield f"{case.title}: {t.to_theirs:.2f} x the time of ONNX Runtime's own"
    if t.to_plain >= 1:
        yield f"{case.title}: {t.to_plain:.2f} x the time of FP32"
    for key, value in ours.items():
        if key in theirs and value <= theirs[key]:
            yield f"{case.title}: {key} {value:.2f}, ONNX Runtime's own {theirs[key]:.2f}"


def row(case: Case, t: Timing, theirs: dict[str, float] | None, ours: dict[str, float]) -> str:
    """A line of the table."""

    def db(found: dict[str, float] | None) -> str:
        return " / ".join(f"{v:.1f} dB" for v in sqnr(found).values()) or "-"

    def metric(found: dict[str, float] | None) -> str:
        return f"{found['metric']:.2f}" if found and "metric" in found else "-"

    plain = f"{ours['metric'] - ours['gap']:.2f}" if "gap" in ours else "-"
    cells = [
        case.title,
        f"{t.plain:.2f} ms",
        "fails" if t.theirs is None else f"{t.theirs:.2f} ms",
        f"{t.ours:.2f} ms",
        "-" if t.to_theirs is None else f"{t.to_theirs:.2f}",
        f"{t.to_plain:.2f}",
        *(db(theirs), db(ours), plain, metric(theirs), metric(ours)),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    """Print the table, or write it to a page between its marks; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add_places(parser)
    parser.add_argument("--models", default=",".join(BARRED), help="names with commas between")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--write", type=Path, metavar="FILE", help="page whose table is replaced")
    options = parser.parse_args()
    bench = places(options)
    rows, short = [HEADER], []
    for case in (c for c in CASES if c.name in options.models.split(",")):
        if why := bench.missing(case):
            say(f"{case.title}: left out, {why}")
            continue
        theirs, ours = their_model(bench, case), quantized(bench, case, *TARGET).path
        found = [figures(bench, case, m) if m else None for m in (theirs, ours)]
        timed = timing(bench, case, [bench.model(case), theirs, ours], options.turns)
        rows.append(row(case, timed, found[0], found[1] or {}))
        print("\n".join(rows[-2:] if len(rows) == 2 else rows[-1:]), flush=True)
        if case.name in BARRED:
            short += missed(case, timed, sqnr(found[0]), sqnr(found[1]))
    if options.write:
        text = options.write.read_text("utf-8")
        start, end = "<!-- cpu: begin -->\n", "<!-- cpu: end -->"
        page = text.split(start)[0] + start + "\n".join(rows) + "\n" + end + text.split(end)[1]
        options.write.write_text(page, "utf-8")
    for line in short:
        print(f"missed: {line}")
    return 1 if short or len(rows) == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
