"""Plain FP32 inference over calibration samples, one at a time: what everything is compared with.

    python plain.py MODEL DATA.npy|DATA.npz

Prints JSON: import_s, load_s (the session) and inference_s (reading and running every sample).
The data are mapped anew for each sample, so that their pages do not count as this process's memory.
"""

from __future__ import annotations

import json
import sys
import time

started = time.perf_counter()

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402

imported = time.perf_counter()


def main(model: str, data: str) -> None:
    """Run every sample through a default session."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter()
    names = [value.name for value in session.get_inputs()]
    if data.endswith(".npz"):
        with np.load(data) as archive:
            stacked = {name: archive[name] for name in names}
        for i in range(len(stacked[names[0]])):
            session.run(None, {name: x[i : i + 1] for name, x in stacked.items()})
    else:
        for i in range(len(np.load(data, mmap_mode="r"))):
            session.run(None, {names[0]: np.array(np.load(data, mmap_mode="r")[i : i + 1])})
    done = time.perf_counter()
    seconds = {
        "import_s": imported - started,
        "load_s": loaded - imported,
        "inference_s": done - loaded,
    }
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
