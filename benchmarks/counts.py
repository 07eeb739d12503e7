"""Double work in one `onnxq quantize`: what a small model and 16 samples are put through.

    python benchmarks/counts.py -o before.json [--tree CHECKOUT]
    python benchmarks/counts.py -o after.json --against before.json

Counted are functions of NumPy files, onnx, onnx-graphsurgeon, hashlib and ONNX Runtime, which stay
where they are while modules of onnxq move; of onnxq itself only `Dataset.sample`, whichever module
has it. A file is opened once for each row that is read of it. Exit code 1: a bar is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import onnx
from markdown import table

ROOT = Path(__file__).resolve().parent.parent
RECOVERIES = ("none", "auto", "all")
SAMPLES, SIDE, SLACK = 16, 32, 256  # SLACK: bytes of names and shapes hashed with a sample
MODEL = f"""<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3, {SIDE}, {SIDE}] x) => (float[N, 16] y) {{
  a = Conv<pads = [1, 1, 1, 1]>(x, w0, b0)
  b = Relu(a)
  c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(b, w1, b1)
  d = Relu(c)
  e = Conv<pads = [1, 1, 1, 1]>(d, w2, b2)
  f = Add(d, e)
  g = Relu(f)
  h = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(g, w3, b3)
  i = Relu(h)
  j = Conv<pads = [1, 1, 1, 1]>(i, w4, b4)
  k = GlobalAveragePool(j)
  y = Flatten(k)
}}"""
CHANNELS = (3, 32, 32, 32, 32, 16)
ROWS = (
    "reads of a sample (`Dataset.sample`)",
    "openings of the data's file",
    "SHA-256 of a sample",
    "openings of the model's file",
    "parses of the model",
    "SHA-256 of the model's file",
    "parses of other models with its weights",
    "`Graph.copy`",
    "graph to protobuf",
    "shape inference of the whole graph",
    "of these behind the preparation",
    "sessions",
    "runs of a session",
    "calls of Python functions",
)  # the last one in thousands
READS, OPENS, HASHES, MODEL_OPENS, PARSES, MODEL_HASHES, COPIES_PARSED = ROWS[:7]
COPIES, EXPORTS, INFERRED, INFERRED_LATER, SESSIONS, RUNS, CALLS = ROWS[7:]
# qualified name of a function, the end of its file's name, what it counts as
FUNCTIONS = (
    ("Dataset.sample", "", READS),
    ("Graph.copy", "", COPIES),
    ("export_onnx", "onnx_exporter.py", EXPORTS),
    ("infer_shapes", "shape_inference.py", INFERRED),
    ("infer_shapes_path", "shape_inference.py", INFERRED),
    ("InferenceSession.__init__", "onnxruntime_inference_collection.py", SESSIONS),
    ("Session.run", "onnxruntime_inference_collection.py", RUNS),
    ("Session.run_with_iobinding", "onnxruntime_inference_collection.py", RUNS),
)
PARSE = "_ProtobufSerializer.deserialize_proto"

# At most so many, for the first recoveries: two and three passes over the samples, each hashed
# once, and one look at the model.
MOST = {
    READS: (2 * SAMPLES, 3 * SAMPLES),
    HASHES: (SAMPLES,) * 3,
    PARSES: (1,) * 3,
    MODEL_HASHES: (1,) * 3,
}

Counts = dict[str, int]


def main() -> int:
    """Count, write, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--against", type=Path, help="counts of before")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout to run")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return counted(*args.child)
    found = counts(args.tree.resolve())
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    before = json.loads(args.against.read_text("utf-8")) if args.against else None
    print(page(found, before))
    short = missed(found)
    print("\n".join(f"missed: {line}" for line in short))
    return int(bool(short))


def counts(tree: Path) -> dict[str, Counts]:
    """The counts of every recovery, each in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tree), str(tree / "cli")))}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        model, data = _written(Path(folder))
        for recovery in RECOVERIES:
            out = Path(folder) / "counts.json"
            command = [sys.executable, __file__, "--child", model, data, recovery, out]
            subprocess.run(
                command, env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL
            )
            found[recovery] = json.loads(out.read_text("utf-8"))
    return found


def _written(folder: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(MODEL)
    for k in range(5):
        shape = (CHANNELS[k + 1], CHANNELS[k], 3, 3)
        weight = rng.standard_normal(shape, np.float32) / np.float32((9 * CHANNELS[k]) ** 0.5)
        bias = 0.1 * rng.standard_normal(CHANNELS[k + 1], np.float32)
        for name, values in (("w", weight), ("b", bias)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, f"{name}{k}"))
    onnx.save(model, folder / "model.onnx")
    np.save(folder / "x.npy", rng.standard_normal((SAMPLES, 3, SIDE, SIDE), np.float32))
    return folder / "model.onnx", folder / "x.npy"


def counted(model: str, data: str, recovery: str, out: str) -> int:
    """Run `onnxq quantize` here and write what it called."""
    from onnxq_cli.main import main as onnxq

    found: Counter[str] = Counter()
    content = Path(model).read_bytes()
    known = {(name, end): row for name, end, row in FUNCTIONS}
    names = {name for name, _, _ in FUNCTIONS}

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        found[CALLS] += 1
        code = frame.f_code
        if code.co_qualname in names:
            for (name, end), row in known.items():
                if code.co_qualname == name and code.co_filename.endswith(end):
                    found[row] += 1
                    found[INFERRED_LATER] += row == INFERRED and not _preparing(frame)
        elif code.co_qualname == PARSE:
            parsed = frame.f_locals["serialized"]
            found[PARSES] += parsed == content
            found[COPIES_PARSED] += parsed != content and len(parsed) > len(content) // 2

    def opened(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            found[OPENS] += str(arguments[0]) == data
            found[MODEL_OPENS] += str(arguments[0]) == model

    _watch_hashes(found, {4 * 3 * SIDE**2: HASHES, len(content): MODEL_HASHES})
    sys.addaudithook(opened)
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        onnxq(["quantize", model, "--calib", data, "--recover", recovery, "-q", "-o", "q.onnx"])
    except SystemExit as e:
        if e.code:
            raise
    finally:
        sys.setprofile(None)
    found[CALLS] //= 1000
    Path(out).write_text(json.dumps({row: found[row] for row in ROWS}), "utf-8")
    return 0


def _preparing(frame: FrameType | None) -> bool:
    """Whether the pass `prepare` is under way."""
    while frame is not None:
        if frame.f_code.co_filename.endswith("prepare.py"):
            return True
        frame = frame.f_back
    return False


def _watch_hashes(found: Counter[str], sizes: dict[int, str]) -> None:
    """Let hashlib's SHA-256 count how much it was given when it is asked for the digest."""
    sha256, new = hashlib.sha256, hashlib.new

    class Watched:
        def __init__(self, data: Any = b"", **options: Any) -> None:
            self.sha, self.size, self.name, self.block_size = sha256(**options), 0, "sha256", 64
            self.digest_size = 32
            self.update(data)

        def update(self, data: Any) -> None:
            self.size += memoryview(data).nbytes
            self.sha.update(data)

        def digest(self) -> bytes:
            for size, row in sizes.items():
                found[row] += size <= self.size <= size + SLACK
            return self.sha.digest()

        def hexdigest(self) -> str:
            return self.digest().hex()

    def made(name: str, data: Any = b"", **options: Any) -> Any:
        return Watched(data, **options) if name == "sha256" else new(name, data, **options)

    hashlib.sha256, hashlib.new = Watched, made  # type: ignore[assignment, misc]


def missed(found: dict[str, Counts]) -> list[str]:
    """The bars that are missed, in words."""
    return [
        f"{row}, --recover {recovery}: {found[recovery][row]}, at most {most}"
        for row, bars in MOST.items()
        for recovery, most in zip(RECOVERIES, bars, strict=False)
        if found[recovery][row] > most
    ]


def page(found: dict[str, Counts], before: dict[str, Counts] | None) -> str:
    """A Markdown table: a row a kind of work, a column a recovery, before -> after."""

    def cell(recovery: str, row: str) -> str:
        now = f"{found[recovery][row]}"
        return now if before is None else f"{before[recovery].get(row, '?')} -> {now}"

    rows = [[row, *(cell(recovery, row) for recovery in RECOVERIES)] for row in ROWS[:-1]]
    rows.append([f"{CALLS}, thousands", *(cell(recovery, CALLS) for recovery in RECOVERIES)])
    return table(["", *(f"`--recover {recovery}`" for recovery in RECOVERIES)], rows)


if __name__ == "__main__":
    sys.exit(main())
