"""Whether half of the data tells what `--enough` does: a line that each `quantize` could have.

    python benchmarks/halves.py --shared DIR --cache DIR [--minilm FILE]

A range read off half of the data needs no memory beside the counts. With an exponent of 1, half of
what it loses on all values is what twice the data would change. Printed: how many of four halves
of the data come to the verdict of `--enough`, which has eight parts: enough, where twice the
data change no tensor by 0.1 dB.
"""

from __future__ import annotations

import argparse

import numpy as np
from cases import CASES, add_places, calibration, places, say

from onnxq import api
from onnxq.calib.enough import PARTS, SMALL
from onnxq.calib.observed import activation_specs
from onnxq.calib.ranges import errors_on
from onnxq.calib.stats import merge
from onnxq.pipeline.calibrating import calibrate_parts, how_enough
from onnxq.pipeline.config import Config
from onnxq.pipeline.steps import read

HALVES = ((0, 1, 2, 3), (4, 5, 6, 7), (0, 2, 4, 6), (1, 3, 5, 7))  # of the eight parts


def said(model: str, data: str, samples: int) -> tuple[float, list[float]]:
    """dB that twice the data would change of the tensor that changes most: by `--enough`, and by
    each of four halves."""
    config = Config(samples=samples)
    source = api.prepare(model, config)
    plan = api.plan(source, config)
    parts = calibrate_parts(source, plan, api.data(source, data, config), PARTS, config)
    whole = merge(*parts)
    ranges = read(source, plan, whole, "mse")
    enough = how_enough(source, plan, parts, ranges, "mse")
    specs, most = activation_specs(source.graph, plan), []
    for half in HALVES:
        found = read(source, plan, merge(*(parts[i] for i in half)), "mse")
        errors = errors_on(whole, [found], specs, plan.tied)
        pairs = [(errors[name][0], r.expected_error) for name, r in ranges.tensors.items()]
        most.append(max(abs(5 * np.log10(a / b)) for a, b in pairs if a > 0 and b > 0))
    return abs(enough.tensors[enough.worst].change_db), most


def main() -> None:
    """Print a line for each model, with all of its samples and with a quarter of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    bench = places(parser.parse_args())
    alike = every = 0
    for case in CASES:
        if bench.missing(case):
            continue
        for samples in (case.samples // 4, case.samples):
            whole, halves = said(str(bench.model(case)), str(calibration(bench, case)), samples)
            same = sum((half < SMALL) == (whole < SMALL) for half in halves)
            alike, every = alike + same, every + len(halves)
            shown = ", ".join(f"{half:.2f}" for half in halves)
            say(f"{case.title}, {samples} samples: {whole:.2f} dB; halves {shown}; {same} agree")
    say(f"{alike} of {every} halves come to the verdict of --enough")


if __name__ == "__main__":
    main()
