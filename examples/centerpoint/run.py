"""Quantize the two models of a lidar detector, the deblocks left float; mAP from points to boxes.

python examples/centerpoint/run.py                     # on the fixture
python examples/centerpoint/run.py --encoder pts_voxel_encoder.onnx --encoder-calib voxels.npy \
    --backbone pts_backbone_neck_head.onnx --frames frames --grid 512x512
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from commands import FIXTURES, onnxq, table  # noqa: E402

FIXTURE = FIXTURES / "centerpoint"
FRAMES, SEED = 8, 2


def module(path: Path) -> ModuleType:
    """A module of the fixture or of the example."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = found
    spec.loader.exec_module(found)
    return found


def write_frames(folder: Path) -> None:
    """Frames of the fixture, a file each: pillars and where they are."""
    folder.mkdir(exist_ok=True)
    scenes, pillars = module(FIXTURE / "scenes.py"), module(FIXTURE / "pillars.py")
    rng = np.random.default_rng(SEED)
    for i in range(FRAMES):
        features, coords = pillars.voxelize(scenes.make_scene(rng).points)
        np.savez(folder / f"{i}.npz", features=features, coords=coords)


def canvases(args: argparse.Namespace) -> Path:
    """The backbone's data: what the encoder gives for frames, scattered."""
    frames, out = args.frames or args.out / "frames", args.out / "canvases"
    if args.frames is None:
        write_frames(frames)
    rows, columns = map(int, args.grid.split("x"))
    first = args.out / "to_canvas.onnx"
    module(HERE / "scatter.py").with_scatter(args.encoder, first, rows, columns)
    shutil.rmtree(out, ignore_errors=True)
    onnxq("data", "--through", first, "--calib", frames, "--model", args.backbone, "-o", out)
    return out


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=Path, default=FIXTURE / "voxel_encoder.onnx")
    parser.add_argument("--encoder-calib", type=Path, default=FIXTURE / "voxel_encoder_calib.npy")
    parser.add_argument("--backbone", type=Path, default=FIXTURE / "backbone_neck_head.onnx")
    parser.add_argument("--backbone-calib", type=Path, help="canvases; or frames, which make them")
    parser.add_argument("--frames", type=Path, help="folder of .npz: the encoder's input, coords")
    parser.add_argument("--grid", default="64x64", help="rows and columns of the canvas")
    parser.add_argument("--skip", default="deblocks", help="nodes of the backbone to leave float")
    parser.add_argument("--out", type=Path, default=Path("centerpoint-out"))
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)

    encoder, backbone = (args.out / f"{p.stem}.int8.onnx" for p in (args.encoder, args.backbone))
    # its one product has 9 to 11 features in, which TensorRT does not gain by; the default leaves
    # it float, so --min-channels asks for it
    onnxq("quantize", args.encoder, "--calib", args.encoder_calib, "--min-channels", 1,
          "-o", encoder)  # fmt: skip
    calib = args.backbone_calib or canvases(args)
    onnxq("quantize", args.backbone, "--calib", calib, "--skip", args.skip,
          "-o", backbone)  # fmt: skip
    onnxq("lint", backbone)

    if {args.encoder.resolve().parent, args.backbone.resolve().parent} != {FIXTURE}:
        print("\nscore these in your own pipeline: the mAP here is of the fixture's scenes")
        return
    print()
    score = module(FIXTURE / "score.py")  # voxelizes, runs both models, decodes, matches boxes
    rows = [("model", "mAP", "car", "pedestrian", "cyclist")]
    for name, first, second in (
        ("float", args.encoder, args.backbone),
        ("INT8 backbone", args.encoder, backbone),
        ("INT8 encoder and backbone", encoder, backbone),
    ):
        metrics, _ = score.measure(second, first)
        rows.append((name, *(f"{value:.2f}" for value in metrics.values())))
    table(rows)


if __name__ == "__main__":
    main()
