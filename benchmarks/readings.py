"""How long each method takes to read ranges off the histograms of many tensors.

    python readings.py [--tensors 500]

The histograms are as full as they come: long-tailed values of both signs over many octaves, 4
million a tensor, drawn from five families. CPU seconds for all tensors on one core.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from onnxq.calib.histogram import Histogram, histogram_of
from onnxq.calib.methods import parse_method
from onnxq.calib.ranges import read_ranges
from onnxq.calib.stats import Stats
from onnxq.spec import QuantSpec

METHODS = ("max", "percentile:99.99", "entropy", "mse")
SPECS = {"int8": QuantSpec("int8"), "uint8": QuantSpec("uint8"), "fp8": QuantSpec("fp8")}
BASE = 1 << 19


def histograms(count: int) -> dict[str, Histogram]:
    """`count` histograms: five families, scaled so that no two are alike."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(BASE).astype(np.float32)
    families = [
        normal,
        np.maximum(normal, 0),
        normal * np.exp2(4 * rng.standard_normal(BASE)).astype(np.float32),
        rng.laplace(size=BASE).astype(np.float32),
        normal / (1 + np.exp(-normal)),
    ]
    made = {}
    for k in range(count):
        scale = np.float32(2.0 ** rng.uniform(-3, 3))
        counted = histogram_of(families[k % len(families)] * scale)
        made[f"t{k}"] = Histogram(counted.bins, counted.counts * 8, counted.min, counted.max)
    return made


def main() -> None:
    """Print a line a method and type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensors", type=int, default=500)
    count = parser.parse_args().tensors
    stats = Stats("", histograms(count), 1)
    bins = np.mean([h.bins.size for h in stats.histograms.values()])
    print(f"{count} tensors, {bins:.0f} bins with a count on the average")
    for name, spec in SPECS.items():
        for method in METHODS:
            if (name, method) == ("fp8", "entropy"):
                continue
            started = time.process_time()
            read_ranges(stats, parse_method(method), spec)
            print(f"{name:6} {method:18} {time.process_time() - started:6.2f} s", flush=True)


if __name__ == "__main__":
    main()
