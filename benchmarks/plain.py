"""Plain FP32 inference over calibration samples, one at a time: what everything is compared with.

    python plain.py MODEL DATA.npy|DATA.npz [--sample-a-core]

`--sample-a-core` runs single-thread sessions over different samples side by side instead: the floor
of what looks at every sample. Prints JSON: import_s, load_s (the session) and inference_s (reading
and running every sample). Data of more than a few MB are mapped anew for each sample, so that their
pages do not count as this process's memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

started = time.perf_counter()

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402

imported = time.perf_counter()
SMALL = 16 << 20  # bytes of data that are held


def main(model: str, data: str, sample_a_core: bool = False) -> None:
    """Run every sample through a default session, or a sample a core through one of one thread."""
    options = ort.SessionOptions()
    if sample_a_core:
        options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter()
    names = [value.name for value in session.get_inputs()]
    if data.endswith(".npz") or Path(data).stat().st_size < SMALL:
        read = np.load(data)
        stacked = {n: read[n] if data.endswith(".npz") else read for n in names}
        count = len(stacked[names[0]])

        def run(i: int) -> None:
            session.run(None, {name: x[i : i + 1] for name, x in stacked.items()})
    else:
        count = len(np.load(data, mmap_mode="r"))

        def run(i: int) -> None:
            session.run(None, {names[0]: np.array(np.load(data, mmap_mode="r")[i : i + 1])})

    if sample_a_core:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run, range(count)))
    else:
        for i in range(count):
            run(i)
    done = time.perf_counter()
    seconds = {
        "import_s": imported - started,
        "load_s": loaded - imported,
        "inference_s": done - loaded,
    }
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:3], sample_a_core="--sample-a-core" in sys.argv)
