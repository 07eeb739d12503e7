"""Whether memory grows with the samples, whether ranges depend on how the data are split, and the
centerpoint fixture."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from cases import ROOT, Bench, Case, calibration, onnxq, say

REPEATS = 3
FLAT = (50, 500)
CENTERPOINT = ROOT / "fixtures" / "centerpoint"


def memory(bench: Bench, case: Case) -> dict[str, float]:
    """Median peak memory in MB of `onnxq quantize` for each number of samples in FLAT."""
    samples, found = np.load(calibration(bench, case), mmap_mode="r"), {}
    with tempfile.TemporaryDirectory(dir=bench.cache) as folder:
        for count in FLAT:
            say(f"{case.title}: memory with {count} samples")
            data = Path(folder) / f"{count}.npy"
            np.save(data, samples[np.arange(count) % len(samples)])
            out = Path(folder) / "out.onnx"
            command = ("quantize", bench.model(case), "--calib", data, "-o", out)
            found[str(count)] = statistics.median(
                onnxq(*command)["peak_mb"] for _ in range(REPEATS)
            )
            data.unlink()
    return found


def identity(bench: Bench, case: Case) -> dict[str, bool]:
    """For every other order, split and number of workers: is `ranges.json` the same to the byte?"""
    samples = np.load(calibration(bench, case), mmap_mode="r")
    order = np.random.default_rng(0).permutation(len(samples))
    third = len(samples) // 3
    with tempfile.TemporaryDirectory(dir=bench.cache) as folder:

        def ranges(*parts: Any, workers: int | None = None) -> bytes:
            out, options = Path(folder) / "ranges.json", []
            for i, part in enumerate(parts):
                path = Path(folder) / f"{i}.npy"
                np.save(path, part)
                options += ["--calib", str(path)]
            options += ["--workers", str(workers)] if workers else []
            onnxq("calibrate", bench.model(case), *options, "-o", out)
            return out.read_bytes()

        say(f"{case.title}: ranges of the same data in other orders and splits")
        first = ranges(samples)
        return {
            "reversed": ranges(samples[::-1]) == first,
            "shuffled": ranges(samples[order]) == first,
            "three files": ranges(samples[:third], samples[third : third + 7], samples[third + 7 :])
            == first,
            "1 worker": ranges(samples, workers=1) == first,
            "2 workers": ranges(samples, workers=2) == first,
            "3 workers": ranges(samples, workers=3) == first,
        }


def centerpoint(cache: Path) -> dict[str, float]:
    """mAP of the centerpoint fixture: float, deblocks skipped, defaults, deconvolutions in INT8."""
    model, data = CENTERPOINT / "backbone_neck_head.onnx", CENTERPOINT / "calib.npy"
    variants = {
        "`--skip deblocks`": ("--skip", "deblocks"),
        "defaults": (),
        "`--deconv per-tensor`": ("--deconv", "per-tensor"),
    }
    say("centerpoint: the float model")
    found = {"float": _fixture_map(model)}
    for name, options in variants.items():
        say(f"centerpoint: {name}")
        out = cache / "centerpoint.onnx"
        onnxq("quantize", model, "--calib", data, "-o", out, *options)
        found[name] = _fixture_map(out)
    return found


def _fixture_map(model: Path) -> float:
    command = [sys.executable, str(CENTERPOINT / "score.py"), str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["mAP"])
