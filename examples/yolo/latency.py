"""Latency of a model through ONNX Runtime, and of a TensorRT engine where there is a GPU.

python examples/yolo/latency.py MODEL.onnx INPUT.npy [--engine MODEL.engine]

Milliseconds a sample, median and 90th percentile, after a warm-up. On a busy machine the figures
say nothing. Engine times include copying the input to the GPU and the output back.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

WARM_UP = 5
Times = tuple[float, float]  # median and 90th percentile, ms


def timed(call: Callable[[], object], runs: int) -> Times:
    """Median and 90th percentile in milliseconds."""
    for _ in range(WARM_UP):
        call()
    spent = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        spent.append(1000 * (time.perf_counter() - start))
    return float(np.median(spent)), float(np.percentile(spent, 90))


def through_onnxruntime(model: Path, sample: np.ndarray, runs: int) -> Times:
    """Latency on the CPU with ONNX Runtime's own choice of threads."""
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: sample}
    return timed(lambda: session.run(None, feed), runs)


def through_engine(engine: Path, sample: np.ndarray, runs: int) -> Times | str:
    """Latency of an engine that `onnxq build` made, or why it cannot run here."""
    import os

    from onnxq.errors import RuntimeMissing
    from onnxq.trt.backend import find_backend, has_gpu

    try:
        backend = find_backend()
    except RuntimeMissing as e:
        return str(e)
    if not has_gpu():
        return "there is no GPU here to run an engine on"
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1" if backend.is_rtx else "0"
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    with TrtRunner(EngineFromBytes(BytesFromPath(str(engine)))) as runner:
        name = next(iter(runner.get_input_metadata()))
        return timed(lambda: runner.infer({name: sample}, check_inputs=False), runs)


def said(median: float, most: float) -> str:
    """Both figures in a line."""
    return f"{median:.2f} ms, 90 % within {most:.2f} ms"


def main() -> None:
    """Print both latencies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("input", type=Path, help=".npy; its first sample is run")
    parser.add_argument("--engine", type=Path)
    parser.add_argument("--runs", type=int, default=50)
    args = parser.parse_args()
    sample = np.load(args.input, mmap_mode="r")[:1].copy()
    found = {"onnxruntime": through_onnxruntime(args.model, sample, args.runs)}
    if args.engine:
        found["engine"] = through_engine(args.engine, sample, args.runs)
    for name, times in found.items():
        print(f"{name}: {times if isinstance(times, str) else said(*times)}")


if __name__ == "__main__":
    main()
