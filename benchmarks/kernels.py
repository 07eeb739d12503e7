"""Engines of our quantized models beside those of another tool's output for the same model.

    python benchmarks/kernels.py --shared ../shared --other FOLDER --write docs/tensorrt.md

Every model is quantized with default options on a few samples (where Q/DQ goes does not depend on
how many), built with TensorRT-RTX, and its engine read. FOLDER holds the other tool's models under
the same file names; a model that is not there has its cells empty.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxq import api
from onnxq.model import graph as graphs
from onnxq.model.input_shapes import profile_of
from onnxq.pipeline.config import Config
from onnxq.trt.build import BuildOptions, build
from onnxq.trt.engine import load_engine
from onnxq.trt.verdict import Verdict, judge

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = 8
FIXTURES = (
    ("centerpoint", "backbone_neck_head.onnx", "calib.npy"),
    ("classifier", "classifier.onnx", "calib.npy"),
    ("transformer", "transformer.onnx", "calib.npz"),
    ("yolo_like", "yolo_like.onnx", "calib.npy"),
)
HEADER = (
    "| model | INT8 as meant | kernels | MB moved | with FP16 around it | "
    "other tool: in INT8 | kernels | MB moved |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Subject:
    """A float model with its calibration data, and the other tool's form of it if there is one."""

    title: str
    model: Path
    calib: str
    other: Path | None


def subjects(data: Mapping[str, str], shared: Path, other: Path | None) -> Iterator[Subject]:
    """The fixtures, then the shared models for which there is data."""
    for folder, model, calib in FIXTURES:
        path = ROOT / "fixtures" / folder
        yield Subject(f"{folder}/{model}", path / model, str(path / calib), None)
    for name, calib in data.items():
        beside = None if other is None else other / f"{name}.onnx"
        model = shared / "models" / f"{name}.onnx"
        if not model.is_file():
            model = Path(calib).with_name(f"{name}.onnx")
        yield Subject(name, model, calib, beside if beside and beside.is_file() else None)


def row(subject: Subject, folder: Path) -> str:
    """One line of the table."""
    cells = [subject.title]
    profile: tuple[str, ...] = ()
    for precision in ("fp32", "fp16"):
        config = Config(samples=SAMPLES, recover="none", high_precision=precision)  # type: ignore[arg-type]
        source = api.open_model(subject.model)
        dataset = api.data(source, [subject.calib], config)
        if _is_dynamic(source.graph):
            profile = profile_of([{k: v.shape for k, v in dataset.sample(0).items()}])
        result = api.quantize(subject.model, [subject.calib], config)
        out = folder / "ours.onnx"
        api.write(result, out, config)
        verdict = _verdict(out, folder, profile)
        cells.append(_words(verdict) if precision == "fp32" else _short(verdict))
    theirs = None if subject.other is None else _verdict(subject.other, folder, profile)
    cells.append(" | ".join(["-"] * 3) if subject.other is None else _words(theirs))
    return "| " + " | ".join(cells) + " |"


def _is_dynamic(graph: graphs.Graph) -> bool:
    return any(not isinstance(d, int) for t in graph.inputs for d in t.shape)


def _verdict(model: Path, folder: Path, profile: tuple[str, ...]) -> Verdict | None:
    engine = folder / "model.engine"
    result = build(model, engine, options=BuildOptions("tensorrt-rtx", shapes=profile))
    return judge(graphs.load(model), load_engine(engine)) if result.ok else None


def _words(verdict: Verdict | None) -> str:
    if verdict is None:
        return "refused | - | -"
    moved = verdict.engine.traffic
    megabytes = "?" if moved is None else f"{moved / 1e6:.1f}"
    return (
        f"{verdict.covered} of {len(verdict.meant)} | {len(verdict.engine.kernels)} | {megabytes}"
    )


def _short(verdict: Verdict | None) -> str:
    if verdict is None:
        return "refused"
    return f"{verdict.covered} of {len(verdict.meant)}, {len(verdict.engine.kernels)} kernels"


def main() -> None:
    """Print the table, or write it to a page between its marks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=CALIB",
                        help="calibration data of a shared model; repeatable")  # fmt: skip
    parser.add_argument("--other", type=Path, help="folder of another tool's models")
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    data = dict(text.split("=", 1) for text in options.data)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects(data, options.shared, options.other):
            rows.append(row(subject, Path(folder)))
            print(rows[-1], flush=True)
    if options.write:
        text = options.write.read_text("utf-8")
        start, end = "<!-- kernels: begin -->\n", "<!-- kernels: end -->"
        head, tail = text.split(start)[0], text.split(end)[1]
        page = head + start + "\n".join([HEADER, *rows]) + "\n" + end + tail
        options.write.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
