"""Damaged files through the command line: what must never come of it, and how that is watched.

A mutant is a seed: it picks a file of a small sound corpus, damages it (`mutants`) and runs one of
the commands that read it. Whatever the damage, the command must end in time with 0 or 2, say 2 in
one line, raise nothing, and leave no file but those it was asked for.

`survive(seeds)` runs them in worker processes, so that a crash of native code or a hang is seen,
named and survived. Run as a script it is the worker: `fuzzing.py CORPUS FIRST COUNT`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from mutants import mutant  # noqa: E402

ROOT = HERE.parent
MEMORY = 6 << 30  # bytes of address space of a worker: a mutant may ask for all there is
SECONDS = 60  # a mutant's time, on a busy machine too; the median takes a tenth of a second

NET = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 4, 4, 4] x) => (float[N, 8] y, float[N, 8, 4, 4] c) <
    float[1] half = {0.5}, int64[2] flat = {0, -1}
> {
    [conv] a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
    [norm] n = BatchNormalization<epsilon = 1e-5>(a, one, zero, zero, one)
    [relu] r = Relu(n)
    [pool] p = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(r)
    [second] b = Conv<kernel_shape = [1, 1]>(p, v, zero)
    [sum] s = Add(r, b)
    [cat] c = Concat<axis = 1>(s, p)
    [flat] f = Reshape(c, flat)
    [product] m = MatMul(f, k)
    mean = ReduceMean<keepdims = 0>(m)
    limit = Constant<value_float = 0.0>()
    above = Greater(mean, limit)
    [branch] y = If(above) <
        then_branch = yes () => (float[N, 8] t) { t = Mul(m, half) },
        else_branch = no () => (float[N, 8] e) { e = Relu(m) }
    >
}"""
SMALL = ("--min-channels", "1", "--workers", "1", "--check-samples", "2")
# the damaged file -> commands that read it
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "net.onnx": (
        ("quantize", "net.onnx", "--calib", "x.npy", *SMALL, "-o", "out.onnx"),
        ("quantize", "net.onnx", "--calib", "x.npy", *SMALL, "-o", "out.onnx", "--target",
         "onnxruntime", "--recover", "none", "--external-data"),
        ("quantize", "net.onnx", "--calib", "random", *SMALL, "-o", "out.onnx", "--high-precision",
         "fp16"),
        ("prepare", "net.onnx", "-o", "out.onnx"),
        ("plan", "net.onnx", "--min-channels", "1", "-o", "out.yaml"),
        ("lint", "net.onnx"),
        ("compare", "net.onnx", "int8.onnx", "--calib", "x.npy"),
    ),
    "far.onnx": (("quantize", "far.onnx", "--calib", "x.npy", *SMALL, "-o", "out.onnx"),),
    "far.data": (("quantize", "far.onnx", "--calib", "x.npy", *SMALL, "-o", "out.onnx"),),
    "int8.onnx": (
        ("quantize", "int8.onnx", "--calib", "x.npy", *SMALL, "-o", "out.onnx", "--requantize"),
        ("compare", "net.onnx", "int8.onnx", "--calib", "x.npy", "--per-tensor"),
        ("lint", "int8.onnx"),
        ("inspect", "int8.onnx", "--calib", "x.npy"),
        ("diff", "net.onnx", "int8.onnx"),
    ),
    "x.npy": (
        ("calibrate", "net.onnx", "--calib", "x.npy", "--min-channels", "1", "-o", "out.json"),
        ("data", "--model", "net.onnx", "--calib", "x.npy", "-o", "out.npz"),
    ),
    "x.npz": (("data", "--model", "net.onnx", "--calib", "x.npz", "-o", "out.json"),),
    "packed.npz": (("data", "--model", "net.onnx", "--calib", "packed.npz", "-o", "out.npz"),),
    "x.json": (("data", "--model", "net.onnx", "--calib", "x.json", "-o", "out.npz"),),
    "test_data_set_0/input_0.pb": (
        ("data", "--model", "net.onnx", "--calib", "test_data_set_0", "-o", "out.npz"),
    ),
    "plan.yaml": (
        ("quantize", "net.onnx", "--calib", "x.npy", *SMALL, "--plan", "plan.yaml", "-o",
         "out.onnx"),
        ("calibrate", "net.onnx", "--stats", "stats.npz", "--plan", "plan.yaml", "-o",
         "out.json"),
    ),
    "stats.npz": (
        ("calibrate", "net.onnx", "--stats", "stats.npz", "--min-channels", "1", "-o",
         "out.json"),
        ("calibrate", "net.onnx", "--stats", "stats.npz", "--min-channels", "1", "--method",
         "entropy", "-o", "out.json"),
        ("merge-stats", "stats.npz", "stats.npz", "-o", "out.npz"),
        ("quantize", "net.onnx", "--calib", "x.npy", *SMALL, "--stats", "stats.npz", "-o",
         "out.onnx"),
    ),
    "begun.npz": (
        ("calibrate", "net.onnx", "--calib", "x.npy", "--min-channels", "1", "--save-stats",
         "begun.npz", "-o", "out.json"),
    ),
    "run.yaml": (("plan", "net.onnx", "--config", "run.yaml", "-o", "out.yaml"),),
    "int8.onnx.manifest.json": (
        ("plan", "net.onnx", "--config", "int8.onnx.manifest.json", "-o", "out.yaml"),
    ),
    "ranges.json": (("load ranges", "ranges.json"),),
}  # fmt: skip
WRITTEN = {"out.onnx", "out.onnx.manifest.json", "out.onnx.data", "out.yaml", "out.json", "out.npz",
           "begun.npz"}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of a mutant. fault: what should not have been, empty where all was well."""

    seed: int
    file: str
    command: str
    code: int | None
    seconds: float
    said: str
    fault: str = ""


def make_corpus(folder: Path) -> None:
    """The sound files that mutants are made of, in `folder`."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(NET)
    weights = {
        "w": rng.normal(size=(4, 4, 3, 3)), "v": rng.normal(size=(4, 4, 1, 1)),
        "k": rng.normal(size=(128, 8)), "one": np.ones(4), "zero": np.zeros(4),
    }  # fmt: skip
    for name, x in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(x.astype(np.float32), name))
    onnx.save(model, folder / "net.onnx")
    onnx.save(model, folder / "far.onnx", save_as_external_data=True, location="far.data",
              size_threshold=0)  # fmt: skip
    x = rng.normal(size=(4, 4, 4, 4)).astype(np.float32)
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x=x)
    np.savez_compressed(folder / "packed.npz", x=x)
    (folder / "test_data_set_0").mkdir()
    tensor = onnx.numpy_helper.from_array(x[:1], "x")
    (folder / "test_data_set_0" / "input_0.pb").write_bytes(tensor.SerializeToString())
    for command in (
        ("quantize", "net.onnx", "--calib", "x.npy", *SMALL, "-o", "int8.onnx", "--save-plan",
         "plan.yaml", "--save-stats", "stats.npz", "--save-ranges", "ranges.json",
         "--save-config", "run.yaml"),
        ("data", "--model", "net.onnx", "--calib", "x.npy", "-o", "x.json"),
    ):  # fmt: skip
        code, said, _ = run_in(folder, command)
        if code:
            raise RuntimeError(said)
    from onnxq.calib.stats import Stats, sample_digest

    stats = Stats.load(folder / "stats.npz")
    digests = [sample_digest({"x": one[None]}) for one in x]
    stats.save_unfinished(folder / "begun.npz", digests[: stats.samples])


def run_in(folder: Path, command: tuple[str, ...]) -> tuple[int | None, str, str]:
    """(exit code, what it said on stderr, traceback) of a command run in `folder`."""
    from onnxq_cli.main import run

    from onnxq.calib.ranges import Ranges
    from onnxq.errors import OnnxqError

    said = io.StringIO()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            if command[0] != "load ranges":
                return run(list(command)), said.getvalue(), ""
            try:
                Ranges.load(command[1])
            except OnnxqError as e:
                return 2, f"onnxq: {' '.join(str(e).split())}", ""
            return 0, "", ""
    except BaseException:
        return None, said.getvalue(), traceback.format_exc()
    finally:
        os.chdir(before)


def attempt(seed: int, corpus: Path) -> Outcome:
    """Make the mutant of `seed` and run a command on it, in this process."""
    rng = np.random.default_rng(seed)
    pairs = [(name, command) for name, commands in COMMANDS.items() for command in commands]
    name, command = pairs[rng.integers(len(pairs))]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        folder, temporary = Path(place) / "here", Path(place) / "tmp"
        shutil.copytree(corpus, folder)
        temporary.mkdir()
        (folder / name).write_bytes(mutant((corpus / name).read_bytes(), name, rng))
        before = _content(folder)
        tempfile.tempdir = str(temporary)
        start = time.perf_counter()
        try:
            code, said, trace = run_in(folder, command)
        finally:
            tempfile.tempdir = None
        seconds = time.perf_counter() - start
        after = _content(folder)
        left = [str(p.relative_to(temporary)) for p in temporary.rglob("*")]
    answered_no = code == 1 and command[0] in ("lint", "compare", "diff")
    fault = trace or _fault(0 if answered_no else code, said, before, after, left)
    line = next((s for s in said.splitlines() if "warning:" not in s), "")
    return Outcome(seed, name, " ".join(command), code, round(seconds, 3), line, fault)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _fault(
    code: int | None,
    said: str,
    before: dict[str, bytes],
    after: dict[str, bytes],
    left: list[str],
) -> str:
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    lines = [s for s in said.splitlines() if "warning:" not in s and s.strip()]
    if code not in (0, 2):
        return f"exit code {code}: {said[-300:]}"
    if left:
        return f"temporary files left: {left}"
    if code == 0:
        named = {re.sub(r"\.[0-9a-f]{12}\.data$", ".data", path) for path in changed}
        return f"wrote {sorted(named - WRITTEN)}" if named - WRITTEN else ""
    if changed:
        return f"refused and changed {sorted(changed)}"
    if len(lines) != 1 or not lines[0].startswith("onnxq: ") or len(lines[0]) < 30:
        return f"refused, but not in a line: {lines}"
    return ""


def work(corpus: Path, first: int, count: int) -> None:
    """The worker: a line before each mutant, and its outcome behind it."""
    import logging
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.captureWarnings(True)
    for seed in range(first, first + count):
        print(f"begin {seed}", flush=True)
        print(json.dumps(asdict(attempt(seed, corpus))), flush=True)


def survive(first: int, count: int, seconds: float = SECONDS) -> Iterator[Outcome]:
    """The outcomes of the mutants of `count` seeds, those that kill or hang their worker too."""
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as place:
        make_corpus(Path(place))
        seed, end = first, first + count
        while seed < end:
            for outcome in _batch(Path(place), seed, end - seed, seconds):
                seed = outcome.seed + 1
                yield outcome


def _batch(corpus: Path, first: int, count: int, seconds: float) -> Iterator[Outcome]:
    """Outcomes from one worker, until it is done or dead."""
    paths = [str(ROOT), str(ROOT / "cli"), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, __file__, str(corpus), str(first), str(count)]
    worker = subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    lines: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []
    threading.Thread(target=_pass_on, args=(worker.stdout, lines.put), daemon=True).start()
    threading.Thread(target=_pass_on, args=(worker.stderr, errors.append), daemon=True).start()
    seed, done = first, 0
    try:
        while done < count:
            try:
                line = lines.get(timeout=seconds)
            except queue.Empty:
                yield Outcome(seed, "?", "?", None, seconds, "", "hangs")
                return
            if line is None:
                code = worker.wait()
                reason = f"killed its process ({code}): {''.join(e or '' for e in errors)[-2000:]}"
                yield Outcome(seed, "?", "?", None, 0.0, "", reason)
                return
            if line.startswith("begin "):
                seed = int(line.split()[1])
            elif line.startswith("{"):
                done += 1
                yield Outcome(**json.loads(line))
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def _pass_on(stream, put) -> None:
    for line in stream:
        put(line)
    put(None)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
