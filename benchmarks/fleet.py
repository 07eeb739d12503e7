"""What every GPU makes of quantized models, as a table: the fixtures, and shared models.

    python benchmarks/fleet.py --model yolo11n=MODEL,CALIB --write docs/device.md

Each model is quantized with default options on a few samples and built with TensorRT-RTX for every
architecture that it knows, as it is and with FP16 around. The classifier in FP8 is the planted
refusal: GPUs before Ada have no FP8, and the table has to say so.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from onnxq import api
from onnxq.model.input_shapes import profile_of
from onnxq.pipeline.config import Config
from onnxq.targets.options import PlanOptions
from onnxq.trt.build import BuildOptions
from onnxq.trt.fleet import KNOWN, Cell, Fleet

ROOT = Path(__file__).resolve().parents[1] / "fixtures"
SAMPLES = 8
FIXTURES = {
    "centerpoint": ("centerpoint/backbone_neck_head.onnx", "centerpoint/calib.npy"),
    "classifier": ("classifier/classifier.onnx", "classifier/calib.npy"),
    "transformer": ("transformer/transformer.onnx", "transformer/calib.npz"),
    "yolo_like": ("yolo_like/yolo_like.onnx", "yolo_like/calib.npy"),
}
PLANTED = "classifier, FP8"
BEGIN, END = "<!-- fleet: begin -->\n", "<!-- fleet: end -->"


def fleet_of(model: Path, calib: Path, folder: Path, scheme: str = "w8a8") -> Fleet:
    """The matrix of a float model, quantized."""
    config = Config(
        samples=SAMPLES, recover="none", check_samples=1, placement=PlanOptions(scheme=scheme)
    )
    source = api.open_model(model)
    sample = api.data(source, [str(calib)], config).sample(0)
    shapes: tuple[str, ...] = ()
    if any(not isinstance(d, int) for t in source.graph.inputs for d in t.shape):
        shapes = profile_of([{k: v.shape for k, v in sample.items()}])
    out = folder / "model.int8.onnx"
    api.write(api.quantize(model, [str(calib)], config), out, config)
    return api.build_fleet(out, "all", BuildOptions("tensorrt-rtx", shapes=shapes))


def rows(title: str, found: Fleet) -> Iterator[str]:
    """A row a form, a column an architecture; then the line of each refusal, once."""
    forms = dict.fromkeys(cell.form for cell in found.cells)
    for form in forms:
        cells = {c.arch: c for c in found.cells if c.form == form}
        shown = " | ".join(_cell(cells[arch]) for arch in KNOWN)
        yield f"| {title} | {form} | {shown} |"


def refusals(title: str, found: Fleet) -> Iterator[str]:
    """Who refuses the model, with TensorRT's own line."""
    whys: dict[str, list[str]] = {}
    for cell in found.cells:
        if cell.state == "refused":
            whys.setdefault(cell.why, []).append(cell.arch)
    for why, archs in whys.items():
        yield f"- {title}, {', '.join(dict.fromkeys(archs))}: `{why[:160]}`"


def _cell(cell: Cell) -> str:
    if cell.state != "builds":
        return cell.state
    moved = "?" if cell.moved is None else f"{cell.moved / 1e6:.1f}"
    return f"{cell.covered}/{cell.meant}, {cell.kernels}, {moved}"


def main() -> None:
    """Print the table, or write it to a page between its marks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", action="append", default=[], metavar="NAME=MODEL,CALIB",
                        help="a further model with its calibration data; repeatable")  # fmt: skip
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    subjects = {n: (ROOT / m, ROOT / c, "w8a8") for n, (m, c) in FIXTURES.items()}
    for text in options.model:
        name, _, files = text.partition("=")
        model, _, calib = files.partition(",")
        subjects[name] = (Path(model), Path(calib), "w8a8")
    subjects[PLANTED] = (*subjects["classifier"][:2], "fp8")
    table = [f"| model | form | {' | '.join(KNOWN)} |", "|---" * (len(KNOWN) + 2) + "|"]
    said: list[str] = []
    for title, (model, calib, scheme) in subjects.items():
        with tempfile.TemporaryDirectory() as folder:
            found = fleet_of(model, calib, Path(folder), scheme)
        table += rows(title, found)
        said += refusals(title, found)
        print("\n".join(rows(title, found)), flush=True)
    print("\n".join(said))
    refused = {cell.arch for cell in found.cells if cell.state == "refused"}
    if not {"sm75", "sm80", "sm86"} <= refused:
        raise SystemExit(f"the planted refusal was not found: {sorted(refused)}")
    if options.write:
        head, rest = options.write.read_text("utf-8").split(BEGIN)
        text = "\n".join([*table, "", *said])
        options.write.write_text(f"{head}{BEGIN}{text}\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()
