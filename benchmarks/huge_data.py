"""Calibration on a .npy file of 20 GB: peak memory beside that of a small one.

    python huge_data.py FOLDER [--gigabytes 20]

The file is sparse and all but two samples are zero, so it takes no room on the disk; reading it and
counting every value, is the real thing. The model is one strided Conv. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from large import run

SIDE = 512
MODEL = f"""<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3, {SIDE}, {SIDE}] x) => (float[N, 16, 64, 64] y)
{{ y = Conv<strides = [8, 8]>(x, w) }}"""


def write_data(path: Path, samples: int) -> None:
    """Write images of zeros, the first all 1 and the last all 3."""
    x = np.lib.format.open_memmap(path, "w+", np.float32, (samples, 3, SIDE, SIDE))
    x[0], x[-1] = 1, 3
    x.flush()


def main() -> None:
    """Print a line a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    options = parser.parse_args()
    weight = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
    model = onnx.parser.parse_model(MODEL)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path, data = Path(folder) / "m.onnx", Path(folder) / "x.npy"
        onnx.save(model, path)
        for samples in (64, int(options.gigabytes * 1e9 / (12 * SIDE * SIDE))):
            write_data(data, samples)
            command = ["calibrate", path, "--calib", data, "-o", Path(folder) / "ranges.json"]
            code, seconds, _, peak = run([sys.executable, "-m", "onnxq_cli", *map(str, command)])
            size = data.stat().st_size / 1e9
            print(f"{size:6.2f} GB: exit {code}, {seconds:.1f} s, peak {peak / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
