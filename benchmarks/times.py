"""What is timed, part by part; every run is a process of its own, and what is compared takes turns.

time: plain inference, `calibrate`, `quantize` and other quantizers over the same samples, with how
near their models come. start: what a command takes before it does anything. rows: many small
samples. prepare: a graph of 10,000 nodes. sensitivity: ranking, beside plain inference and beside
brute force, which quantizes the whole model anew for every node.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from accuracy import figures, float_figures
from cases import CASES, HERE, ONNXQ, ROOT, Bench, Case, calibration, peer, say, watched
from engines import builds
from large import write_model
from peers import MODELOPT, ONNXSIM, ORT
from quiet import Meter, wait_for_quiet
from scipy.stats import spearmanr

Figures = dict[str, float]
Ways = dict[str, Callable[[], Figures]]

UINT8 = "quantize --target onnxruntime"
OURS = {"calibrate": (), "quantize --recover none": ("--recover", "none"), "quantize": ()}
FIXTURE = [
    str(ROOT / "fixtures" / "classifier" / name) for name in ("classifier.onnx", "calib.npy")
]
# Modules that a command imports, in order; then the seconds that importing them takes.
LIST = """import json, sys
from onnxq_cli.main import main
try: main(sys.argv[2:])
finally: json.dump(list(sys.modules), open(sys.argv[1], "w"))"""
IMPORT = """import importlib, json, sys, time
names, started = json.load(open(sys.argv[1])), time.perf_counter()
for name in names:
    try: importlib.import_module(name)
    except Exception: pass  # made by another one
print(json.dumps({"import_s": time.perf_counter() - started}))"""
TIMED = """import json, time
started = time.perf_counter()
import onnxq
print(json.dumps({"import_s": time.perf_counter() - started}))"""
PREPARE = """import json, sys, time
from onnxq import api
started = time.process_time()
api.prepare(sys.argv[1])
print(json.dumps({"prepare_s": time.process_time() - started}))"""
ROWS, WIDTH, NODES = 100_000, 32, 10_000
MLP = f"""<ir_version: 8, opset_import: ["": 17]>
g (float[N, {WIDTH}] x) => (float[N, 10] y) {{
  a = Gemm(x, w0, b0)
  b = Relu(a)
  c = Gemm(b, w1, b1)
  d = Relu(c)
  y = Gemm(d, w2, b2)
}}"""
WIDTHS = (WIDTH, 64, 32, 10)
RANKED = {"efficientnet_lite0": 32, "yolo11n": 8}  # samples


@dataclass(frozen=True)
class Timer:
    """How to measure: the checkout, how often, seconds to wait for the machine, and interpreters
    that have other quantizers."""

    bench: Bench
    tree: Path = ROOT
    repeats: int = 3
    patience: float = 0.0
    onnxsim: str | None = None
    modelopt: str | None = None
    peers: bool = True

    def turns(self, title: str, ways: Ways, once: Ways | None = None) -> dict[str, Any]:
        """Medians over the repeats of each way, which take turns; `once` are run in the first
        round alone. others: the largest share of the machine that other work took."""
        rows: dict[str, list[Figures]] = {}
        others = []
        for i in range(self.repeats):
            wait_for_quiet(self.patience)
            meter = Meter()
            for name, run in (ways | (once or {}) if i == 0 else ways).items():
                say(f"{title}: {name}, {i + 1} of {self.repeats}")
                try:
                    rows.setdefault(name, []).append(run())
                except RuntimeError as e:
                    if name in ways:
                        raise
                    say(f"failed: {str(e).splitlines()[-1]}")
                    del rows[name]
            others.append(meter.others())
        medians = {
            name: {k: statistics.median(row[k] for row in found) for k in found[0]}
            for name, found in rows.items()
        }
        return {"ways": medians, "others": max(others)}

    def onnxq(self, *arguments: str | Path) -> Callable[[], Figures]:
        """A run of a command."""
        return lambda: watched([*ONNXQ, *map(str, arguments), "-q"], self.tree)[0]

    def python(self, code: str, *arguments: str | Path) -> Callable[[], Figures]:
        """A run of Python code that prints figures as JSON."""

        def run() -> Figures:
            command = [sys.executable, "-c", code, *map(str, arguments)]
            taken, output = watched(command, self.tree)
            return taken | (json.loads(output) if output.startswith("{") else {})

        return run

    def plain(self, model: Path, data: Path, *options: str) -> Callable[[], Figures]:
        """Plain inference over the samples of a file."""

        def run() -> Figures:
            command = [sys.executable, HERE / "plain.py", model, data, *options]
            taken, output = watched(list(map(str, command)))
            return taken | json.loads(output)

        return run

    def starts(self, folder: Path) -> Ways:
        """For each of OURS what comes before it does anything: the interpreter and its imports."""
        ways: Ways = {}
        for way in OURS:
            names = folder / f"{way}.json"
            verb, *options = way.split()
            out = folder / ("r.json" if verb == "calibrate" else "q.onnx")
            model, data = FIXTURE
            arguments = [verb, model, "--calib", data, "-o", str(out), *options, "-q"]
            watched([sys.executable, "-c", LIST, str(names), *arguments], self.tree)
            ways[f"start of {way}"] = self.python(IMPORT, names)
        return ways

    def ours(self, folder: Path, model: Path, data: Path) -> Ways:
        """`calibrate` and `quantize`, each into a file of its own in `folder`."""
        ways: Ways = {}
        for way, options in OURS.items():
            verb = way.split()[0]
            out = ("-o", folder / "r.json", "--save-stats", folder / "s.npz")
            if verb == "quantize":
                out = ("-o", folder / f"{way}.onnx")
            ways[way] = self.onnxq(verb, model, "--calib", data, *out, *options)
        return ways

    def others(self, folder: Path, case: Case) -> Ways:
        """Other quantizers, and ours as UINT8, each into a file of its own in `folder`."""
        tools = [(title, tool, sys.executable) for title, tool in ORT.items()]
        if self.onnxsim:
            tools += [(title, tool, self.onnxsim) for title, tool in ONNXSIM.items()]
        if self.modelopt:
            tools += [(title, tool, self.modelopt) for title, tool in MODELOPT.items()]
        calib = ("--calib", calibration(self.bench, case))
        ours = ("quantize", self.bench.model(case), *calib, "-o", folder / f"{UINT8}.onnx")
        return {UINT8: self.onnxq(*ours, *UINT8.split()[1:])} | {
            title: lambda t=title, tool=tool, python=python: peer(
                tool, self.bench, case, folder / f"{t}.onnx", python
            )
            for title, tool, python in tools
        }


def time(timer: Timer, case: Case) -> dict[str, Any]:
    """Everything over the calibration samples of a case, and what the models reach."""
    model, data = timer.bench.model(case), calibration(timer.bench, case)
    with tempfile.TemporaryDirectory(dir=timer.bench.cache) as made:
        folder = Path(made)
        ways = {
            "plain": timer.plain(model, data),
            "plain, a sample a core": timer.plain(model, data, "--sample-a-core"),
            **timer.starts(folder),
            **timer.ours(folder, model, data),
        }
        once = timer.others(folder, case) if timer.peers else {}
        found = timer.turns(case.title, ways, once)
        found["samples"] = case.samples
        manifest = json.loads((folder / "quantize.onnx.manifest.json").read_text("utf-8"))
        found["stages"] = manifest["seconds"]
        if timer.peers:
            found |= float_figures(timer.bench, case) | {"scored": _scored(timer, case, folder)}
            found["samples"] = case.samples
    return found


def _scored(timer: Timer, case: Case, folder: Path) -> dict[str, Any]:
    scored = {}
    for way in [*OURS, UINT8, *ORT, *ONNXSIM, *MODELOPT]:
        path = folder / f"{way}.onnx"
        try:
            if path.is_file():
                scored[way] = figures(timer.bench, case, path)
                scored[way]["builds"] = builds(timer.bench, case, path)
        except Exception as e:  # whatever another quantizer's model does
            say(f"{way} is not scored: {str(e).splitlines()[0]}")
    return scored


def start(timer: Timer) -> dict[str, Any]:
    """Seconds of `onnxq --version`, of `import onnxq` and of all that a `quantize` imports."""
    with tempfile.TemporaryDirectory() as folder:
        ways = {"version": timer.onnxq("--version"), "onnxq": timer.python(TIMED)}
        ways |= timer.starts(Path(folder))
        return timer.turns("start", ways)


def rows(timer: Timer) -> dict[str, Any]:
    """Many small samples with a free batch axis through a small net."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(MLP)
    for k in range(3):
        weight = rng.standard_normal(WIDTHS[k : k + 2], np.float32) / np.float32(WIDTHS[k] ** 0.5)
        bias = 0.1 * rng.standard_normal(WIDTHS[k + 1], np.float32)
        for name, values in (("w", weight), ("b", bias)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, f"{name}{k}"))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path, data = folder / "mlp.onnx", folder / "rows.npy"
        onnx.save(model, path)
        np.save(data, rng.standard_normal((ROWS, WIDTH), np.float32))
        ways = {
            "plain": timer.plain(path, data),
            **timer.starts(folder),
            **timer.ours(folder, path, data),
        }
        return timer.turns(f"{ROWS} rows", ways)


def prepare(timer: Timer) -> dict[str, Any]:
    """CPU seconds of preparing a net of many small nodes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write_model(path, 4.0 * 16**2 * (NODES // 5), NODES, "matmul")
        return timer.turns(f"{NODES} nodes", {"prepare": timer.python(PREPARE, path)})


def sensitivity(timer: Timer, case: Case) -> dict[str, Any]:
    """A ranking off saved statistics, plain inference before and after it; brute force once."""
    model, count = timer.bench.model(case), RANKED[case.name]
    with tempfile.TemporaryDirectory(dir=timer.bench.cache) as made:
        folder = Path(made)
        data, stats, out = folder / "x.npy", folder / "s.npz", folder / "ranking.csv"
        every = np.load(calibration(timer.bench, case), mmap_mode="r")
        np.save(data, every[:: len(every) // count][:count])
        common = (model, "--calib", data)
        timer.onnxq("calibrate", *common, "--save-stats", stats, "-o", folder / "r.json")()
        command = ("sensitivity", *common, "--stats", stats, "-o")
        every_one = ("--whole", "--screen", "1", "-o")
        ways = {
            "plain": timer.plain(model, data),
            "sensitivity": timer.onnxq(*command, out),
            "plain again": timer.plain(model, data),
            **{k: v for k, v in timer.starts(folder).items() if k == "start of calibrate"},
        }
        once = {
            "--whole": timer.onnxq(*command, folder / "whole.csv", "--whole"),
            "--whole --screen 1": timer.onnxq(*command[:-1], *every_one, folder / "all.csv"),
        }
        found = timer.turns(f"{case.title}, sensitivity", ways, once)
        scores, whole, full = (_scores(folder / f"{k}.csv") for k in ("ranking", "whole", "all"))
    names = list(scores)
    return found | {
        "nodes": len(names),
        "samples": count,
        "apart_db": max(abs(scores[name] - whole[name]) for name in names),
        "same_order": names == list(whole),
        "same_worst": names[:5] == list(full)[:5],
        "correlation": float(spearmanr(*([s[n] for n in names] for s in (scores, full)))[0]),
    }


def _scores(path: Path) -> dict[str, float]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return {row["node"]: float(row["score"]) for row in lines}


WHOLE: dict[str, Callable[[Timer], dict[str, Any]]] = {
    "start": start,
    "rows": rows,
    "prepare": prepare,
}
OF_CASE: dict[str, Callable[[Timer, Case], dict[str, Any]]] = {
    "time": time,
    "sensitivity": sensitivity,
}


def cases_of(part: str, names: Iterable[str]) -> list[Case]:
    """The cases, of those named, that a part can measure."""
    return [c for c in CASES if c.name in names and (part != "sensitivity" or c.name in RANKED)]
