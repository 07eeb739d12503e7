"""Quantize a YOLO detector from a list of images; COCO mAP, agreement, latency before and after.

python examples/yolo/run.py                            # on the fixture
python examples/yolo/run.py --model yolo11n.onnx --calib-list calib.txt --images val2017 \
    --annotations instances_val2017.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import onnx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import annotations  # noqa: E402
import latency  # noqa: E402
import numpy as np  # noqa: E402
from agreement import agreement  # noqa: E402
from coco_map import coco_map, detected  # noqa: E402
from commands import FIXTURES, onnxq, table  # noqa: E402
from fixture_images import write_images  # noqa: E402
from letterbox import write_npy  # noqa: E402


def fixture_data(out: Path) -> tuple[Path, Path, Path]:
    """The fixture's images on disk: list of calibration images, validation images, annotations."""
    write_images(out)
    listed, labels = out / "calib.txt", out / "annotations.json"
    images = sorted((out / "calib").glob("*.png"))
    listed.write_text("".join(f"calib/{p.name}\n" for p in images), "utf-8")
    labels.write_text(json.dumps(annotations.from_labels(out / "val", classes=3)), "utf-8")
    return listed, out / "val", labels


def input_size(model: Path) -> int:
    """The side of the square that the model reads; 640 where it is dynamic."""
    graph = onnx.load(str(model), load_external_data=False).graph
    return graph.input[0].type.tensor_type.shape.dim[2].dim_value or 640


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=FIXTURES / "yolo_like" / "yolo_like.onnx")
    parser.add_argument("--calib-list", type=Path, help="a path of an image a line")
    parser.add_argument("--images", type=Path, help="folder of the validation images")
    parser.add_argument("--annotations", type=Path, help="COCO annotations of these")
    parser.add_argument("--runs", type=int, default=50, help="of each model for its latency")
    parser.add_argument("--engine", action="store_true", help="build and time an engine too")
    parser.add_argument("--out", type=Path, default=Path("yolo-out"))
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    given = (args.calib_list, args.images, args.annotations)
    if any(given) and not all(given):
        parser.error("give --calib-list, --images and --annotations, or none of them")
    listed, images, labels = given if all(given) else fixture_data(args.out)

    calib = args.out / "calib.npy"
    paths = [listed.parent / line for line in listed.read_text("utf-8").split("\n") if line.strip()]
    write_npy(paths, calib, input_size(args.model))
    print(f"{len(paths)} images letterboxed into {calib}")
    quantized = args.out / f"{args.model.stem}.int8.onnx"
    onnxq("quantize", args.model, "--calib", calib, "-o", quantized)

    print()
    sample = np.load(calib, mmap_mode="r")[:1].copy()
    rows = [("model", "mAP50-95", "mAP50", "same", "ms", "MB")]
    floats = detected(args.model, images, labels)
    for name, model in (("float", args.model), ("INT8", quantized)):
        found = floats if model is args.model else detected(model, images, labels)
        scores = coco_map(found, labels)
        same = "{:.1f} ± {:.1f}%".format(*agreement(floats, found))
        median, _ = latency.through_onnxruntime(model, sample, args.runs)
        size = model.stat().st_size / 1e6
        maps = (f"{s:.2f}" for s in scores.values())
        rows.append((name, *maps, same, f"{median:.2f}", f"{size:.2f}"))
    table(rows)
    print("same: detections above 0.25 of one class and an IoU above 0.9 with float's")
    print("ms: ONNX Runtime on this CPU; Q/DQ placed for TensorRT gain little there")
    if args.engine:
        engine = quantized.with_suffix(".engine")
        onnxq("build", quantized, "-o", engine)
        found = latency.through_engine(engine, sample, args.runs)
        print(f"engine: {found if isinstance(found, str) else latency.said(*found)}")


if __name__ == "__main__":
    main()
