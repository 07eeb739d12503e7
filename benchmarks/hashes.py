"""Hashes of what onnxq writes, to see that a change of the code changes no number.

    python benchmarks/hashes.py -o before.json [--tree CHECKOUT] [--shared DIR] [--minilm FILE]
    python benchmarks/hashes.py -o after.json --against before.json

Every fixture and shared model is quantized with each of OPTIONS, and the fixtures are ranked. A row
is a model with its options; a column is a value: plan, stats, ranges, scales, weights, graph,
ranking. The hash of the model file and its digest of provenance are left out of them. `--tree` runs
the code of another checkout. Exit code 1: a hash differs from those of `--against`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import yaml  # noqa: E402
from cases import CASES, ROOT, Bench, add_places, calibration, places, say  # noqa: E402
from onnx.numpy_helper import to_array  # noqa: E402

OPTIONS = {
    "default": (),
    "none": ("--recover", "none"),
    "onnxruntime": ("--recover", "none", "--target", "onnxruntime"),
    "fp16": ("--recover", "none", "--high-precision", "fp16"),
    "w4a8": ("--recover", "none", "--scheme", "w4a8"),
    "entropy": ("--recover", "none", "--method", "entropy"),
}
FIXTURES = {
    "classifier": ("classifier/classifier.onnx", "classifier/calib.npy"),
    "centerpoint": ("centerpoint/backbone_neck_head.onnx", "centerpoint/calib.npy"),
    "yolo_like": ("yolo_like/yolo_like.onnx", "yolo_like/calib.npy"),
    "transformer": ("transformer/transformer.onnx", "transformer/calib.npz"),
}
FIXTURE_OPTIONS = OPTIONS | {"all": ("--recover", "all")}
SAMPLES = 16
QDQ = ("QuantizeLinear", "DequantizeLinear")
RUN = "from onnxq_cli.main import main; main()"

Row = dict[str, str]


def main() -> int:
    """Hash, write, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--tree", type=Path, default=ROOT)
    add_places(parser)
    parser.add_argument("--models", type=lambda text: text.split(","))
    args = parser.parse_args()
    bench = places(args)
    table: dict[str, Row] = {}
    for name, (model, data) in inputs(bench, args.models):
        for title, options in (FIXTURE_OPTIONS if name in FIXTURES else OPTIONS).items():
            say(f"{name} {title}")
            table[f"{name} {title}"] = quantized(args.tree.resolve(), model, data, options)
        if name in FIXTURES:
            table[f"{name} ranking"] = {"ranking": ranked(args.tree.resolve(), model, data)}
        args.out.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    return compared(json.loads(args.against.read_text("utf-8")), table) if args.against else 0


def inputs(bench: Bench, only: list[str] | None) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Name, model and data of every model to hash."""
    for name, paths in FIXTURES.items():
        if only is None or name in only:
            model, data = (ROOT / "fixtures" / path for path in paths)
            yield name, (model, data)
    for case in CASES:
        if only is not None and case.name not in only:
            continue
        if why := bench.missing(case):
            say(f"{case.title}: left out: {why}")
            continue
        yield case.name, (bench.model(case), calibration(bench, case))


def quantized(tree: Path, model: Path, data: Path, options: tuple[str, ...]) -> Row:
    """The hashes of one run of `onnxq quantize`; what it said where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = {name: Path(folder) / name for name in ("q.onnx", "plan.yaml", "s.npz", "r.json")}
        command = ["quantize", model, "--calib", data, "--samples", few(data), "-q", *options,
                   "-o", out["q.onnx"], "--save-plan", out["plan.yaml"],
                   "--save-stats", out["s.npz"], "--save-ranges", out["r.json"]]  # fmt: skip
        if failure := onnxq(tree, *map(str, command)):
            return {"failed": failure}
        plan = yaml.safe_load(out["plan.yaml"].read_text("utf-8"))
        ranges = json.loads(out["r.json"].read_text("utf-8"))
        with np.load(out["s.npz"]) as stats:
            arrays = {name: stats[name] for name in stats.files if name != "header"}
        graph = onnx.load(out["q.onnx"]).graph
        scales = {n.input[1] for n in graph.node if n.op_type in QDQ}
        weights = {t.name: to_array(t) for t in graph.initializer}
    return {
        "plan": text([plan["quantized"], plan.get("skipped")]),
        "stats": bits(arrays),
        "ranges": text({n: r["amax"] for n, r in ranges["tensors"].items()}),
        "scales": bits({n: x for n, x in weights.items() if n in scales}),
        "weights": bits({n: x for n, x in weights.items() if n not in scales}),
        "graph": text([[n.op_type, list(n.input), list(n.output)] for n in graph.node]),
    }


def few(data: Path) -> str:
    """How many of the samples to take: SAMPLES, or all where there are fewer."""
    loaded = np.load(data)
    rows = loaded[loaded.files[0]] if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    return str(min(SAMPLES, len(rows)))


def ranked(tree: Path, model: Path, data: Path) -> str:
    """The hash of the rows of `onnxq sensitivity`, their order and scores."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ranking.csv"
        command = ["sensitivity", model, "--calib", data, "--samples", "8", "-q", "-o", out]
        if failure := onnxq(tree, *map(str, command)):
            return failure
        with out.open(newline="", encoding="utf-8") as lines:
            return text(list(csv.reader(line for line in lines if not line.startswith("#"))))


def onnxq(tree: Path, *arguments: str) -> str | None:
    """Run a command of that checkout; the last line that it said, None where it went well."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tree), str(tree / "cli")))}
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], env=environment, cwd=tree,
                          capture_output=True, text=True)  # fmt: skip
    return None if done.returncode == 0 else (done.stderr.strip() or "failed").splitlines()[-1]


def text(value: object) -> str:
    """A short hash of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def bits(arrays: dict[str, np.ndarray]) -> str:
    """A short hash of named arrays: types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()[:12]


def compared(before: dict[str, Row], after: dict[str, Row]) -> int:
    """Print what differs; the exit code."""
    differing = 0
    for name, row in after.items():
        old = before.get(name, {})
        columns = [c for c in row if row[c] != old.get(c)]
        differing += bool(columns)
        print(f"{name}: {'differs in ' + ', '.join(columns) if columns else 'equal'}")
    print(f"{len(after) - differing} of {len(after)} equal")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
