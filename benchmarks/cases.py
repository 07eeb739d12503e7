"""The models that are measured, the shared folder they come from, `onnxq` as a child process."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ONNXQ = (sys.executable, "-c", "from onnxq_cli.main import main; main()")

Feed = dict[str, np.ndarray] | np.ndarray


@dataclass(frozen=True)
class Case:
    """A model of the shared folder.

    task: the shared task that makes its data. metric: the key of the task's score to report, None
    where there are no labels. detector: output rows 0 to 3 are boxes, the others class scores.
    """

    name: str
    title: str
    task: str
    samples: int
    metric: str | None
    detector: bool = False


CASES = (
    Case("efficientnet_lite0", "EfficientNet-Lite0", "efficientnet_lite0", 100, "top1"),
    Case("yolo11n", "YOLO11n", "yolo11n", 64, "mAP50-95", detector=True),
    Case("yolov8n", "YOLOv8n", "yolov8n", 64, "mAP50-95", detector=True),
    Case("minilm_l3", "MiniLM-L3", "minilm_l3", 64, "spearman"),
    Case("resnet20", "ResNet-20", "resnet20", 100, "top1"),
    Case("ppocr_det", "PP-OCR detector", "yolov8n", 64, None),
)


@dataclass(frozen=True)
class Bench:
    """Where things are: the shared folder, MiniLM's file if there is one, and the cache."""

    shared: Path
    minilm: Path | None
    cache: Path

    def model(self, case: Case) -> Path:
        """The float model of a case."""
        if case.name == "minilm_l3" and self.minilm is not None:
            return self.minilm
        return self.shared / "models" / f"{case.name}.onnx"

    @functools.cached_property
    def tasks(self) -> ModuleType:
        """The shared folder's `eval/tasks.py`; it needs pillow, and tokenizers for MiniLM."""
        path = self.shared / "eval" / "tasks.py"
        spec = importlib.util.spec_from_file_location("shared_tasks", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # its dataclasses look themselves up
        spec.loader.exec_module(module)
        return module

    def task(self, case: Case) -> Any:
        """The shared task of a case."""
        return self.tasks.TASKS[case.task]

    def missing(self, case: Case) -> str | None:
        """What keeps a case from being measured, None if nothing does."""
        if not self.model(case).is_file():
            hint = "--minilm FILE" if case.name == "minilm_l3" else "--shared DIR"
            return f"no {self.model(case).name}; say where with {hint}"
        if not (self.shared / "eval" / "tasks.py").is_file():
            return "no eval/tasks.py; say where with --shared DIR"
        return None


def add_places(parser: argparse.ArgumentParser) -> None:
    """The options that say where things are."""
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", metavar="DIR")
    parser.add_argument("--minilm", type=Path, metavar="FILE", help="MiniLM-L3's ONNX file")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "results", metavar="DIR")


def places(args: argparse.Namespace) -> Bench:
    """What these options say; the cache is made."""
    args.cache.mkdir(parents=True, exist_ok=True)
    minilm = args.minilm and args.minilm.resolve()
    return Bench(args.shared.resolve(), minilm, args.cache.resolve())


def feeds(bench: Bench, case: Case, split: str) -> Iterator[Feed]:
    """Samples of a case: those to calibrate on ("calib") or those to score ("val")."""
    task = bench.task(case)
    samples = task.calib() if split == "calib" else task.samples()
    if case.name != "ppocr_det":
        return iter(samples)
    mean, std = (
        np.float32(v).reshape(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    return ((x - mean) / std for x in samples)


def calibration(bench: Bench, case: Case) -> Path:
    """The case's calibration data as a file in the cache, made once: .npz for several inputs."""
    stem = bench.cache / f"calib-{case.name}-{case.samples}"
    for suffix in (".npy", ".npz"):
        if stem.with_name(stem.name + suffix).is_file():
            return stem.with_name(stem.name + suffix)
    say(f"{case.title}: making {case.samples} calibration samples")
    rows = list(islice(feeds(bench, case, "calib"), case.samples))
    if isinstance(rows[0], dict):
        path = stem.with_name(stem.name + ".npz")
        np.savez(path, **{k: np.concatenate([r[k] for r in rows]) for k in rows[0]})
    else:
        path = stem.with_name(stem.name + ".npy")
        np.save(path, np.concatenate(rows))
    return path


def say(line: str) -> None:
    """One line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def watched(command: list[str], tree: Path = ROOT) -> tuple[dict[str, float], str]:
    """(wall_s, cpu_s and peak_mb, stdout) of a command that finds onnxq in the checkout `tree`;
    raises if it fails."""
    paths = [str(tree), str(tree / "cli"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        watcher = [sys.executable, "-I", str(HERE / "watch.py"), str(report), *command]
        done = subprocess.run(
            watcher, env=environment, cwd=folder, capture_output=True, text=True, check=True
        )
        figures = json.loads(report.read_text("utf-8"))
    if figures.pop("exit"):
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return figures, done.stdout


def onnxq(*arguments: str | Path) -> dict[str, float]:
    """Run an onnxq command; returns what it took, raises with its message if it fails."""
    return watched([*ONNXQ, *map(str, arguments)])[0]


def peer(
    tool: tuple[str, str], bench: Bench, case: Case, out: Path, python: str = sys.executable
) -> dict[str, float]:
    """Run another quantizer (see peers.py) with an interpreter that has it; returns what it took,
    raises with its message if it fails."""
    paths = (HERE / "peers.py", *tool, bench.model(case), calibration(bench, case), out)
    return watched([python, *map(str, paths)])[0]


@dataclass(frozen=True)
class Output:
    """A quantized model, its manifest, and what the run took."""

    path: Path
    manifest: dict[str, Any]
    figures: dict[str, float]


def quantize(bench: Bench, case: Case, *options: str) -> Output:
    """Run `onnxq quantize` on a case with the given options over the defaults."""
    name = "-".join(["int8", *(o.strip("-").replace(":", "_") for o in options)])
    out = bench.cache / f"{case.name}.{name}.onnx"
    figures = onnxq(
        "quantize", bench.model(case), "--calib", calibration(bench, case), "-o", out, *options
    )
    manifest = json.loads(out.with_name(out.name + ".manifest.json").read_text("utf-8"))
    return Output(out, manifest, figures)


@functools.cache
def quantized(bench: Bench, case: Case, *options: str) -> Output:
    """`quantize`, once a run of this program: for what needs the model and not the time."""
    say(f"{case.title}: onnxq quantize {' '.join(options)}")
    return quantize(bench, case, *options)
