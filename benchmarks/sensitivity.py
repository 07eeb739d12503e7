"""Measure `sensitivity` beside plain inference, and hold it against brute force.

    python benchmarks/sensitivity.py [--shared DIR] [--cache DIR] [--models NAME,...] [--fast]

Plain inference is one ONNX Runtime session with default options over the same samples, one a run,
timed before and after each ranking. Brute force is the whole model quantized anew for every node:
with the same screening its scores are to be the same, and over all samples its worst nodes. Other
work on the machine flatters the ratio (see quiet.py): what it took is printed beside it.
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
from quiet import Meter, wait_for_quiet  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

from onnxq import api  # noqa: E402
from onnxq.calib.data import Dataset  # noqa: E402
from onnxq.calib.ranges import Ranges  # noqa: E402
from onnxq.pipeline.config import Config  # noqa: E402
from onnxq.plan import Plan  # noqa: E402
from onnxq.sensitivity import Options, Ranking  # noqa: E402

SAMPLES = {"efficientnet_lite0": 32, "yolo11n": 8}
BAR = 0.4  # of nodes x plain inference
ROUNDS = 3
# Float rounding moves a code or two of a toggled tensor: on EfficientNet-Lite0 0.004 dB of a score
# of 32 samples, 0.017 of one of 8. Ranks are 1 dB apart.
SAME_DB = 0.02
TOP = 5


@dataclass(frozen=True)
class Setting:
    """A model, planned and with its ranges, and the samples to rank on."""

    source: api.Source
    plan: Plan
    ranges: Ranges
    dataset: Dataset

    def rank(self, options: Options) -> tuple[float, Ranking]:
        """(seconds, the ranking)."""
        started = time.perf_counter()
        ranking = api.sensitivity(
            self.source, self.plan, self.ranges, self.dataset, options, Config()
        )
        return time.perf_counter() - started, ranking


def setting(bench: Bench, case: Case) -> Setting:
    """Prepare, plan and calibrate a case."""
    source = api.prepare(bench.model(case))
    plan = api.plan(source)
    dataset = api.data(source, [str(calibration(bench, case))], Config(samples=SAMPLES[case.name]))
    ranges = api.read(source, plan, api.calibrate(source, plan, dataset), "mse")
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
    ratios = []
    for i in range(ROUNDS):
        ratio, ranking = timed(subject, bench.model(case), Options())
        if not i:
            confirmed = sum(row.samples == ranking.samples for row in ranking.rows)
            print(f"{case.title}: {len(ranking.rows)} nodes, {confirmed} of them on all "
                  f"{ranking.samples} samples")  # fmt: skip
        ratios.append(ratio)
    ratio = statistics.median(ratios)
    met = _bar(f"time {ratio:.2f} x nodes x plain, at most {BAR}", ratio <= BAR)
    return met if fast else same_as_brute_force(subject, bench.model(case), ranking) and met


def timed(subject: Setting, path: Path, options: Options) -> tuple[float, Ranking]:
    """(time / (nodes x plain inference), the ranking), of a machine that is left alone if it can
    be had."""
    wait_for_quiet()
    meter = Meter()
    before = plain(path, subject.dataset)
    seconds, ranking = subject.rank(options)
    after = plain(path, subject.dataset)
    ratio = seconds / (len(ranking.rows) * (before + after) / 2)
    say(f"  plain, ranking, plain: {before:.3f}, {seconds:.2f}, {after:.3f} s; {ratio:.2f} x nodes "
        f"x plain; others took {meter.others():.0%} of the processors")  # fmt: skip
    return ratio, ranking


def same_as_brute_force(subject: Setting, path: Path, ranking: Ranking) -> bool:
    """Whether the scores are those of whole models, and the worst nodes those over all samples."""
    _, brute = subject.rank(Options(whole=True))
    found, scores = _scores(ranking), _scores(brute)
    same = ranking.worst(len(found)) == brute.worst(len(found))
    worst = float(np.max([abs(found[name] - scores[name]) for name in found]))
    say(f"  brute force with the same screening: order {'the same' if same else 'differs'}")
    met = _bar(f"scores within {worst:.2g} dB of brute force, at most {SAME_DB}", worst <= SAME_DB)
    ratio, brute = timed(subject, path, Options(whole=True, screen=1.0))
    scores = _scores(brute)
    rho = spearmanr([found[name] for name in found], [scores[name] for name in found])[0]
    print(f"  brute force on all samples: {ratio:.2f} x nodes x plain; rank correlation {rho:.3f}")
    same = ranking.worst(TOP) == brute.worst(TOP)
    return _bar(f"the {TOP} worst nodes as brute force finds them on all samples", same) and met


def _scores(ranking: Ranking) -> dict[str, float]:
    return {row.name: row.overall.score for row in ranking.rows}


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
