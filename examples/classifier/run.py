"""Quantize a classifier, find the nodes that hurt, leave them float; top-1 of each model.

python examples/classifier/run.py                      # on the fixture
python examples/classifier/run.py --model resnet50.onnx --calib calib.npy --images val.npy \
    --labels labels.npy
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from commands import FIXTURES, onnxq, table  # noqa: E402

FIXTURE = FIXTURES / "classifier"


def top1(model: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """The share, in %, of images [n, ...] whose largest logit is at the label [n]."""
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    batch = value.shape[0] if isinstance(value.shape[0], int) else 32
    found = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        if len(part) < batch and isinstance(value.shape[0], int):
            break  # a fixed batch cannot take the rest
        found.append(session.run(None, {value.name: part})[0].argmax(axis=1))
    guessed = np.concatenate(found)
    return 100.0 * float((guessed == labels[: len(guessed)]).mean())


def sqnr(model: Path) -> float:
    """The SQNR in dB that the model's manifest gives its first output."""
    manifest = json.loads(Path(f"{model}.manifest.json").read_text("utf-8"))
    return float(next(iter(manifest["agreement"]["outputs"].values()))["sqnr_db"])


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=FIXTURE / "classifier.onnx")
    parser.add_argument("--calib", type=Path, default=FIXTURE / "calib.npy")
    parser.add_argument("--images", type=Path, help=".npy of preprocessed images")
    parser.add_argument("--labels", type=Path, help=".npy of class numbers, one an image")
    parser.add_argument("--worst", type=int, default=3, help="nodes to leave float")
    parser.add_argument("--out", type=Path, default=Path("classifier-out"))
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    if args.images is None:
        with np.load(FIXTURE / "eval.npz") as data:
            images, labels = data["x"], data["y"]
    else:
        images, labels = np.load(args.images, mmap_mode="r"), np.load(args.labels)

    every, spared = args.out / "all.int8.onnx", args.out / "spared.int8.onnx"
    skip, ranking = args.out / "skip.txt", args.out / "ranking.json"
    data = ("--calib", args.calib)
    onnxq("quantize", args.model, *data, "-o", every)
    onnxq(
        "sensitivity", args.model, *data, "--top", args.worst, "--write-skip", skip, "-o", ranking
    )
    onnxq("quantize", args.model, *data, "--skip", f"@{skip}", "-o", spared)

    print()
    rows = [("model", "top-1 %", "SQNR dB")]
    rows.append(("float", f"{top1(args.model, images, labels):.2f}", ""))
    for name, model in (("INT8", every), (f"INT8, the worst {args.worst} float", spared)):
        rows.append((name, f"{top1(model, images, labels):.2f}", f"{sqnr(model):.2f}"))
    table(rows)


if __name__ == "__main__":
    main()
