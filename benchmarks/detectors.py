"""What detectors lose, and where: mAP and detections of float against INT8, into docs/detectors.md.

    python benchmarks/detectors.py [--shared DIR] [--packages DIR] [--cache DIR]
        [--models NAME,...] [--variants NAME,...] [--folds 1|2] [--write docs/detectors.md]

A fold calibrates on one folder of photographs and scores on the other, so that two folds score all
there are. Figures are kept in `detectors.json` beside this file. Needs pillow.

Agreement is 2 * alike / (detections of float + those of INT8): a detection scores above 0.25 and is
left by NMS at an IoU of 0.7; two are alike, one to one, with the same class and an IoU of 0.9 or
more. With m alike and n of both in image i and R = sum(m) / sum(n), over N images

    e_i = (m_i - R n_i) / sum(n)        standard error = sqrt(N / (N - 1) sum(e_i^2))

and of the difference of two variants over the same images with e_i - e'_i in place of e_i.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import onnx  # noqa: E402
from accuracy import Outputs, sqnr_db  # noqa: E402
from average_precision import Boxes, Truth, matches, mean_average_precision  # noqa: E402
from average_precision import paired_bootstrap as bootstrap  # noqa: E402
from cases import ROOT, Bench, add_places, onnxq, places, say  # noqa: E402
from detections import Alike, alike  # noqa: E402
from detectors_page import FIRST, page  # noqa: E402

from onnxq.model import graph as graphs  # noqa: E402
from onnxq.run import runtime  # noqa: E402
from onnxq.run.macs import macs  # noqa: E402
from onnxq.run.segments import shapes_at  # noqa: E402

KEPT = HERE / "detectors.json"
SPLITS = (FIRST, "calib")  # what a fold scores; it calibrates on the other


@dataclass(frozen=True)
class Detector:
    """A detector of YOLOv8's form. size: of its square. labelled: with COCO's classes."""

    name: str
    title: str
    file: str
    size: int = 640
    labelled: bool = True


DETECTORS = (
    Detector("yolo11n", "YOLO11n", "models/yolo11n.onnx"),
    Detector("yolov8n", "YOLOv8n", "models/yolov8n.onnx"),
    Detector("nudenet", "NudeNet 3.4.2 (YOLOv8n)", "nudenet-3.4.2/nudenet/320n.onnx", 320, False),
)
CLASSES, BOXES = "*cv3.[0-2]*", "*cv2.[0-2].*"
VARIANTS = {
    "default": (),
    "last Convs of classes float": ("--skip", "*cv3.[0-2].2/Conv"),
    "class branch float": ("--skip", CLASSES),
    "last Convs of both float": ("--skip", "*cv[23].[0-2].2/Conv"),
    "attention float": ("--skip", "*attn/MatMul*"),
    "stages 2 and 4 float": ("--skip", "*model.[24]/*"),
    "head float": ("--skip", CLASSES, "--skip", BOXES),
    "only the head INT8": ("--only", CLASSES, "--only", BOXES),
    "no recovery": ("--recover", "none"),
    "first Conv float": ("--keep-first", "1"),
    "Concats float": ("--concat", "float"),
    "residuals and Concats float": ("--concat", "float", "--residual", "float"),
    "ranges by percentile:99.999": ("--method", "percentile:99.999"),
    "ranges by max": ("--method", "max"),
    "float activations": ("--scheme", "w8a16"),
}


@dataclass(frozen=True)
class Run:
    """The outputs of a model for the images of a split, and what they detect."""

    outputs: Outputs
    found: list[Boxes]


def images(bench: Bench, split: str) -> list[Path]:
    """The photographs of a split."""
    return sorted((bench.shared / "data" / "coco" / split).glob("*.jpg"))


@cache
def prepared(bench: Bench, split: str, size: int) -> Path:
    """The images of a split, letterboxed, as a .npy in the cache."""
    path = bench.cache / f"coco-{split}-{size}.npy"
    if not path.is_file():
        rows = [bench.tasks._letterbox(file, size)[0] for file in images(bench, split)]
        np.save(path, np.concatenate(rows))
    return path


@cache
def truths(bench: Bench, split: str, size: int) -> list[Truth]:
    """The labelled boxes of a split, by corners in the square that the model reads."""
    found = []
    for file in images(bench, split):
        _, ratio, left, top, (w, h) = bench.tasks._letterbox(file, size)
        text = file.with_suffix(".txt")
        filled = text.is_file() and text.stat().st_size
        rows = np.loadtxt(text, ndmin=2) if filled else np.zeros((0, 5))
        middle, half = rows[:, 1:3] * [w, h], rows[:, 3:5] * [w, h] / 2
        corners = np.concatenate([middle - half, middle + half], 1)
        moved = corners * ratio + [left, top, left, top]
        found.append((moved, rows[:, 0].astype(int)))
    return found


def run(bench: Bench, one: Detector, split: str, model: Path) -> Run:
    """A model over a split, in one thread."""
    session = runtime.session(model, threads=1)
    name = session.get_inputs()[0].name
    data = np.load(prepared(bench, split, one.size), mmap_mode="r")
    rows = np.stack([session.run(None, {name: x[None]})[0] for x in data])
    return Run(rows, [bench.tasks._decode(row) for row in rows])


@cache
def reference(bench: Bench, one: Detector, split: str, model: Path) -> Run:
    """The float model over a split, its outputs kept in the cache."""
    kept = bench.cache / f"float-{one.name}-{split}.npy"
    if not kept.is_file():
        np.save(kept, run(bench, one, split, model).outputs)
    rows = np.load(kept, mmap_mode="r")
    return Run(rows, [bench.tasks._decode(row) for row in rows])


def share_of_macs(model: Path, float_model: Path, size: int) -> float:
    """The share of the Convs' multiply-accumulates whose activations are INT8, 0 to 100."""
    graph = graphs.load(float_model)
    shapes = shapes_at(graph, {graph.inputs[0].name: (1, 3, size, size)})
    counted = {n.name: macs(n, shapes) for n in graph.nodes if n.op == "Conv"}
    proto = onnx.load(str(model), load_external_data=False).graph
    writes = {name: n.op_type for n in proto.node for name in n.output}
    ran = sum(
        counted.get(n.name, 0)
        for n in proto.node
        if n.op_type == "Conv" and writes.get(n.input[0]) == "DequantizeLinear"
    )
    return 100 * ran / max(sum(counted.values()), 1)


def measured(bench: Bench, one: Detector, model: Path, variant: str, split: str) -> dict[str, Any]:
    """Figures of a variant on the split, with what other figures are made of: counts an image."""
    other = SPLITS[1 - SPLITS.index(split)]
    stem = "".join(c if c.isalnum() else "-" for c in variant)
    out = bench.cache / f"{one.name}.{split}.{stem}.onnx"
    data = prepared(bench, other, one.size)
    say(f"{one.title}: {variant}, scored on {split}")
    onnxq("quantize", model, "--calib", data, "-o", out, *VARIANTS[variant])
    ref, test = reference(bench, one, split, model), run(bench, one, split, out)
    found: dict[str, Any] = {
        "boxes_db": sqnr_db(ref.outputs[:, 0, :4], test.outputs[:, 0, :4]),
        "classes_db": sqnr_db(ref.outputs[:, 0, 4:], test.outputs[:, 0, 4:]),
        "macs": share_of_macs(out, model, one.size),
        "alike": [alike(a, b) for a, b in zip(ref.found, test.found, strict=True)],
    }
    if one.labelled:
        truth = truths(bench, split, one.size)
        pair = [matches(side.found, truth, bench.tasks._iou) for side in (ref, test)]
        each = np.ones(len(truth), int)
        maps = [100 * mean_average_precision(side, each) for side in pair]
        found |= {"float": maps[0], "map": maps[1], "error": 100 * bootstrap(*pair)[1]}
    return found


def main() -> int:
    """Measure what is asked for, keep it, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_places(parser)
    parser.add_argument("--packages", type=Path, default=ROOT.parent / "packages", metavar="DIR")
    parser.add_argument("--models", default=",".join(d.name for d in DETECTORS))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--folds", type=int, default=2, choices=(1, 2))
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    bench = places(args)
    results: dict[str, Any] = json.loads(KEPT.read_text("utf-8")) if KEPT.is_file() else {}
    for split in SPLITS[: args.folds]:
        for variant in filter(None, args.variants.split(",")):
            for one in (d for d in DETECTORS if d.name in args.models.split(",")):
                model = (bench.shared if one.labelled else args.packages.resolve()) / one.file
                found = measured(bench, one, model, variant, split)
                results.setdefault(one.name, {}).setdefault(variant, {})[split] = found
                KEPT.write_text(json.dumps(results), "utf-8")
                shown = {k: round(v, 2) for k, v in found.items() if k != "alike"}
                say(f"  {shown}, agreement {Alike.of(found['alike'])}")
    if args.write:
        known = [(d.title, d.labelled, results[d.name]) for d in DETECTORS if d.name in results]
        args.write.write_text(page(known), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
