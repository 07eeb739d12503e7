"""Quantize the two models of a lidar detector, the deblocks left float; mAP from points to boxes.

python examples/centerpoint/run.py                     # on the fixture
python examples/centerpoint/run.py --encoder pts_voxel_encoder.onnx --encoder-calib voxels.npy \
    --backbone pts_backbone_neck_head.onnx --backbone-calib canvas.npy
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from commands import FIXTURES, onnxq, table  # noqa: E402

FIXTURE = FIXTURES / "centerpoint"


def scorer() -> ModuleType:
    """fixtures/centerpoint/score.py: voxelizes, runs both models, decodes, matches boxes."""
    spec = importlib.util.spec_from_file_location("score", FIXTURE / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=Path, default=FIXTURE / "voxel_encoder.onnx")
    parser.add_argument("--encoder-calib", type=Path, default=FIXTURE / "voxel_encoder_calib.npy")
    parser.add_argument("--backbone", type=Path, default=FIXTURE / "backbone_neck_head.onnx")
    parser.add_argument("--backbone-calib", type=Path, default=FIXTURE / "calib.npy")
    parser.add_argument("--skip", default="deblocks", help="nodes of the backbone to leave float")
    parser.add_argument("--out", type=Path, default=Path("centerpoint-out"))
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)

    encoder, backbone = (args.out / f"{p.stem}.int8.onnx" for p in (args.encoder, args.backbone))
    # its one product has 9 to 11 features in, which TensorRT does not gain by; the default leaves
    # it float, so --min-channels asks for it
    onnxq("quantize", args.encoder, "--calib", args.encoder_calib, "--min-channels", 1,
          "-o", encoder)  # fmt: skip
    onnxq("quantize", args.backbone, "--calib", args.backbone_calib, "--skip", args.skip,
          "-o", backbone)  # fmt: skip
    onnxq("lint", backbone)

    if {args.encoder.resolve().parent, args.backbone.resolve().parent} != {FIXTURE}:
        print("\nscore these in your own pipeline: the mAP here is of the fixture's scenes")
        return
    print()
    score = scorer()
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
