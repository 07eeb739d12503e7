"""Calibration data larger than memory: mapped, a sample at a time, and never a whole file."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

SIDE = 512
SAMPLE = 3 * SIDE * SIDE * 4  # bytes
TWENTY = 20 * 10**9 // SAMPLE  # samples in 20 GB
MEASURED = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, "-m", "onnxq_cli", *sys.argv[1:]])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
sys.exit(code)
"""


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    parsed = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 3, {SIDE}, {SIDE}] x) => (float[N, 16, 64, 64] y)
        {{ y = Conv<strides = [8, 8]>(x, w) }}"""
    )
    w = rng.standard_normal((16, 3, 8, 8)).astype(np.float32)
    parsed.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(parsed, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def sparse(tmp_path):
    """`sparse(samples)`: a .npy file that is all zero but for two samples, one near each end."""

    def make(samples):
        path = tmp_path / f"{samples}.npy"
        shape = (samples, 3, SIDE, SIDE)
        try:
            x = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        except OSError as e:
            pytest.skip(f"no sparse files here: {e}")
        x[samples // 16], x[-1 - samples // 16] = 1, 3
        x.flush()
        return path

    return make


def peak_of(*arguments):
    """Bytes that a command's process held at most."""
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout.rsplit("peak ", 1)[1])


def test_a_few_samples_of_a_twenty_gigabyte_file_take_what_they_take_of_a_small_one(
    model, sparse, tmp_path
):
    peaks = {}
    for samples in (8, TWENTY):
        data, out = sparse(samples), tmp_path / f"{samples}.json"
        assert data.stat().st_size > samples * SAMPLE
        peaks[samples] = peak_of("calibrate", model, "--calib", data, "--samples", 8, "-o", out)
        # of eight evenly spread samples the last is a sixteenth from the end
        assert json.loads(out.read_text())["tensors"]["x"]["amax"] == pytest.approx(3)
    # One sample has 3 MB; another run of the same command differs by some MB.
    assert abs(peaks[TWENTY] - peaks[8]) < 32e6


def test_the_peak_does_not_grow_with_the_samples_that_are_read(model, sparse, tmp_path):
    peaks = [
        peak_of("calibrate", model, "--calib", sparse(n), "-o", tmp_path / "r.json")
        for n in (8, 160)
    ]
    assert peaks[1] - peaks[0] < 32e6  # 160 samples have 500 MB
