"""Measure `sensitivity` beside plain inference, and hold it against brute force.

    python benchmarks/sensitivity.py [--shared DIR] [--cache DIR] [--models NAME,...] [--fast]

Plain inference is one ONNX Runtime session with default options over the same samples, one a run,
timed before and after each ranking. Brute force is the whole model quantized anew for every node.
Needs pillow besides onnxq. Exit code 1: a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402
from cases import CASES, ROOT, Bench, Case, calibration, say  # noqa: E402

from onnxq import api  # noqa: E402
from onnxq.calib.data import Dataset  # noqa: E402
from onnxq.calib.ranges import Ranges  # noqa: E402
from onnxq.config import Config  # noqa: E402
from onnxq.plan import Plan  # noqa: E402
from onnxq.sensitivity import Options, Ranking  # noqa: E402

SAMPLES = {"efficientnet_lite0": 32, "yolo11n": 8}
BAR = 0.4  # of nodes x plain inference
ROUNDS = 3
SAME_DB = 0.01  # float rounding moves a code or two of a toggled tensor; ranks are 1 dB apart
TOP = 5


@dataclass(frozen=True)
class Setting:
    """A model, planned and with its ranges, and the samples to rank on."""

    source: api.Source
    plan: Plan
    ranges: Ranges
    dataset: Dataset

    def rank(self, whole: bool = False) -> tuple[float, Ranking]:
        """(seconds, the ranking)."""
        started = time.perf_counter()
        ranking = api.sensitivity(
            self.source, self.plan, self.ranges, self.dataset, Options(whole=whole), Config()
        )
        return time.perf_counter() - started, ranking


def setting(bench: Bench, case: Case) -> Setting:
    """Prepare, plan and calibrate a case."""
    source = api.prepare(bench.model(case))
    plan = api.plan(source)
    dataset = api.data(source, [str(calibration(bench, case))], Config(samples=SAMPLES[case.name]))
    ranges = api.read(plan, api.calibrate(source, plan, dataset), "mse")
    return Setting(source, plan, ranges, dataset)


def plain(path: Path, dataset: Dataset) -> float:
    """Seconds of plain inference over the samples; building and warming the session not counted."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = list(dataset)
    session.run(None, feeds[0])
    started = time.perf_counter()
    for feed in feeds:
        session.run(None, feed)
    return time.perf_counter() - started


def measure(bench: Bench, case: Case, fast: bool) -> bool:
    """Print what a case takes and whether its bars are met."""
    subject = setting(bench, case)
    ratios, times = [], []
    before = plain(bench.model(case), subject.dataset)
    for _ in range(ROUNDS):
        seconds, ranking = subject.rank()
        after = plain(bench.model(case), subject.dataset)
        ratios.append(seconds / (len(ranking.rows) * (before + after) / 2))
        times.append((round(before, 3), round(seconds, 2), round(after, 3)))
        before = after
    ratio = statistics.median(ratios)
    print(f"{case.title}: {len(ranking.rows)} nodes, {ranking.samples} samples")
    print(f"  plain, ranking, plain (s): {times}")
    met = _bar(f"time {ratio:.2f} x nodes x plain, at most {BAR}", ratio <= BAR)
    if fast:
        return met
    seconds, brute = subject.rank(whole=True)
    after = plain(bench.model(case), subject.dataset)
    print(f"  brute force {seconds:.1f} s, {seconds / len(brute.rows) / after:.2f} x nodes x plain")
    scores = {row.name: row.overall.score for row in brute.rows}
    gaps = [abs(row.overall.score - scores[row.name]) for row in ranking.rows]
    worst = float(np.max(gaps))
    met &= _bar(f"scores within {worst:.2g} dB of brute force, at most {SAME_DB}", worst <= SAME_DB)
    same = [r.name for r in ranking.rows[:TOP]] == [r.name for r in brute.rows[:TOP]]
    return _bar(f"the {TOP} worst nodes as brute force finds them", same) and met


def _bar(text: str, met: bool) -> bool:
    print(f"  {'pass' if met else 'MISS'}  {text}", flush=True)
    return met


def main() -> int:
    """Measure the cases that are asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", metavar="DIR")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "results", metavar="DIR")
    parser.add_argument("--models", default=",".join(SAMPLES), help="of " + ", ".join(SAMPLES))
    parser.add_argument("--fast", action="store_true", help="leave brute force out")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.shared.resolve(), None, args.cache.resolve())
    say(json.dumps({"cores": os.cpu_count(), "load": [round(x, 1) for x in os.getloadavg()]}))
    met = True
    for case in CASES:
        if case.name not in SAMPLES or case.name not in args.models.split(","):
            continue
        if why := bench.missing(case):
            say(f"{case.title}: not measured: {why}")
            continue
        met &= measure(bench, case, args.fast)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
