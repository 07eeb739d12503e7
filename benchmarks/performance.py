"""Time and memory of calibration beside plain inference and other quantizers, in turns in one run.

    python benchmarks/performance.py [--shared DIR] [--minilm FILE] [--cache DIR] [--repeats N]
        [--models NAME,...] [--peer NAME=PYTHON ...] [--write docs/performance.md]

A peer is measured with the interpreter of an environment that it is installed in: `--peer
modelopt=/path/to/python`. ONNX Runtime's own quantizer is measured with this one. `--write` renews
the part of the page between its two marks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import CASES, ONNXQ, ROOT, Bench, Case, calibration, say, watched  # noqa: E402
from markdown import table  # noqa: E402
from quiet import Meter, wait_for_quiet  # noqa: E402

MODELS = ("efficientnet_lite0", "yolo11n", "minilm_l3")
BEGIN, END = "<!-- times: begin -->", "<!-- times: end -->"
START = "import onnxq.api, onnxruntime, onnxq_cli.main"  # what every run begins with
ORT_METHODS = ("minmax", "percentile", "entropy")
Figures = dict[str, float]


def main() -> int:
    """Measure, print, and write the page if asked to."""
    args = _arguments()
    cache = args.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.shared.resolve(), args.minilm and args.minilm.resolve(), cache)
    kept = HERE / "performance.json"
    found: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    for case in CASES:
        if case.name not in args.models:
            continue
        if why := bench.missing(case):
            say(f"{case.title}: not measured: {why}")
            continue
        found[case.name] = _measured(bench, case, args.repeats, args.peers)
        kept.write_text(json.dumps(found, indent=1), "utf-8")
    text = "\n".join(_section(case, found[case.name]) for case in CASES if case.name in found)
    print(text)
    if args.write:
        page = args.write.read_text("utf-8")
        head, tail = page.split(BEGIN)[0], page.split(END)[1]
        args.write.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}", "utf-8")
    return 0


def _measured(bench: Bench, case: Case, repeats: int, peers: dict[str, str]) -> dict[str, Any]:
    """Medians over the repeats: for plain inference, start and each way to run its figures."""
    rows: dict[str, list[Figures]] = {}
    others = []
    for i in range(repeats):
        wait_for_quiet()
        meter = Meter()
        for name, run in _ways(bench, case, peers if i == 0 else {}, i == 0).items():
            say(f"{case.title}: {name}, {i + 1} of {repeats}")
            if figures := run():
                rows.setdefault(name, []).append(figures)
        others.append(meter.others())
    medians = {
        name: {k: statistics.median(row[k] for row in found) for k in found[0]}
        for name, found in rows.items()
    }
    return {"ways": medians, "others": max(others), "samples": case.samples}


def _ways(
    bench: Bench, case: Case, peers: dict[str, str], once: bool
) -> dict[str, Callable[[], Figures | None]]:
    model, data = str(bench.model(case)), str(calibration(bench, case))
    folder = Path(tempfile.mkdtemp(dir=bench.cache))

    def onnxq(*arguments: str) -> Callable[[], Figures]:
        return lambda: watched([*ONNXQ, *arguments])[0]

    def plain(*options: str) -> Figures:
        figures, output = watched([sys.executable, str(HERE / "plain.py"), model, data, *options])
        return figures | json.loads(output)

    out = str(folder / "out.onnx")
    quantize = ("quantize", model, "--calib", data, "-o", out)
    ways: dict[str, Callable[[], Figures | None]] = {
        "plain": plain,
        "plain, a sample a core": lambda: plain("--sample-a-core"),
        "start": lambda: watched([sys.executable, "-c", START])[0],
        "calibrate": onnxq(
            *("calibrate", model, "--calib", data, "--stats", str(folder / "s.npz")),
            *("-o", str(folder / "ranges.json")),
        ),
        "quantize --recover none": onnxq(*quantize, "--recover", "none"),
        "quantize": onnxq(*quantize),
    }
    script = bench.shared / "peers" / "ort.py"
    if once and script.is_file() and data.endswith(".npy"):
        for method in ORT_METHODS:
            command = [sys.executable, str(script), model, data, out, method, "trt"]
            ways[f"ONNX Runtime, {method}"] = lambda command=command: _peer(command)
        for name, python in peers.items():
            peer = bench.shared / "peers" / f"{name}.py"
            ways[name] = lambda c=[python, str(peer), model, data, out, "max"]: _peer(c)
    return ways


def _peer(command: list[str]) -> Figures | None:
    try:
        return watched(command)[0]
    except RuntimeError as e:
        say(f"failed: {str(e).splitlines()[-1]}")
        return None


def _section(case: Case, found: dict[str, Any]) -> str:
    ways: dict[str, Figures] = found["ways"]
    plain = ways["plain"]
    inference, memory = plain["inference_s"], plain["peak_mb"]
    start = ways["start"]["wall_s"]
    rows = []
    for name, figures in ways.items():
        wall = figures["wall_s"]
        row = [name, f"{wall:.2f}", f"{wall / inference:.1f}"]
        ours = name.startswith(("calibrate", "quantize"))
        row.append(f"{(wall - start) / inference:.2f}" if ours else "")
        if "inference_s" in figures:
            row[1] = f"{wall:.2f} (inference {figures['inference_s']:.2f})"
            row[2] = f"{figures['inference_s'] / inference:.2f}"
        if name != "start":
            rows.append([*row, f"{figures['peak_mb']:.0f}", f"{figures['peak_mb'] / memory:.2f}"])
    head = ["", "wall s", "/ inference", "less start", "peak MB", "/ plain"]
    title = f"**{case.title}**, {found['samples']} samples; start of the process {start:.2f} s"
    return f"{title}; others took {found['others']:.0%} of the processors\n\n{table(head, rows)}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", metavar="DIR")
    parser.add_argument("--minilm", type=Path, metavar="FILE", help="MiniLM-L3's ONNX file")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "results", metavar="DIR")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page to renew")
    args = parser.parse_args()
    args.peers = dict(peer.split("=", 1) for peer in args.peer)
    return args


if __name__ == "__main__":
    sys.exit(main())
