"""How the time of each step grows with the number of nodes: near-linear is an exponent near 1.

    python nodes.py [--nodes 100,1000,10000] [--width 16] [--profile STEP]

The graph is the residual net of `large.py` with narrow layers, so that nodes are what costs. Each
row is a step: CPU seconds at each size (the least of three runs up to a second, else of one), and
the exponent of growth between one size and the next.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

from large import write_model

from onnxq import api
from onnxq.calib.observed import observed, settle
from onnxq.model import graph as graphs
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.prepare import PREPARE
from onnxq.pipeline import steps
from onnxq.pipeline.config import Config
from onnxq.pipeline.manifest import node_counts
from onnxq.run import segments
from onnxq.run.program import compile_program
from onnxq.run.runtime import Runtime
from onnxq.trt.lint import lint

Measured = dict[str, float]


def measure(path: Path, profiled: str) -> Measured:
    """CPU seconds of each step on the model at `path`."""
    found: Measured = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        if name == profiled:
            with cProfile.Profile() as profile:
                result = step()
            pstats.Stats(profile).sort_stats("cumulative").print_stats(35)
            return result
        seconds = []
        while not seconds or (seconds[-1] < 1 and len(seconds) < 3):
            started = time.process_time()
            result = step()
            seconds.append(time.process_time() - started)
        found[name] = min(seconds)
        return result

    config = Config(recover="none")
    opened = timed("open", lambda: graphs.load(path))
    for one in PREPARE:
        name = f"pass {one.__name__}"
        if name not in found and name != profiled:
            timed(name, lambda one=one: apply(opened, one))
    timed("apply, no pass", lambda: apply(opened))
    source = timed("prepare", lambda: api.prepare(path))
    plan = timed("plan", lambda: api.plan(source))
    names = timed("observed", lambda: observed(source.graph, plan))
    part = timed("restrict", lambda: segments.restrict(source.graph, names))
    order = timed("cut", lambda: segments.cut(part, set(names)))
    timed("subgraphs", lambda: [graphs.to_proto(segments.subgraph(part, s)) for s in order])
    timed("sessions", lambda: compile_program(source.graph, names, Runtime()))
    dataset = api.data(source, [str(path.with_suffix(".npy"))], config)
    stats = timed("calibrate", lambda: steps.calibrate(source, plan, dataset, config))
    ranges = timed("read", lambda: steps.read(source, plan, stats, "max"))
    timed("settle", lambda: settle(source.graph, plan, ranges))
    quantized = timed("insert", lambda: steps.insert(source, plan, ranges, config))
    copies = iter([quantized.copy() for _ in range(3)])  # it is corrected in place
    whole = Config()
    timed("bias correction", lambda: api.recover(source, next(copies), plan, dataset, whole))
    timed("counts", lambda: node_counts(quantized, plan))
    timed("yaml", plan.to_yaml)
    timed("infer_shapes", lambda: infer_shapes(quantized))
    out = path.with_name("quantized.onnx")
    timed("save", lambda: graphs.save(quantized, out, external_data=True))
    timed("lint", lambda: lint(graphs.load(out)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", default="100,1000,10000")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--profile", default="", help="print a profile of this step")
    options = parser.parse_args()
    sizes = [int(n) for n in options.nodes.split(",")]
    measured = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            write_model(path, 4.0 * options.width**2 * (size // 5), size, "matmul")
            measured.append(measure(path, options.profile))
    heads = "".join(f"{size:>10,}" for size in sizes)
    print(f"{'step':24}{heads}   exponents")
    for name in measured[-1]:
        seconds = [m[name] for m in measured]
        grown = [
            log(b / a) / log(m / n)
            for a, b, n, m in zip(seconds, seconds[1:], sizes, sizes[1:], strict=False)
            if a > 0 and b > 0
        ]
        row = "".join(f"{s:10.3f}" for s in seconds)
        print(f"{name:24}{row}   {' '.join(f'{e:.2f}' for e in grown)}")


if __name__ == "__main__":
    main()
