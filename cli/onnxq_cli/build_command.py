"""`onnxq build`: a TensorRT engine, and what it really runs in INT8."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from onnxq.json_text import to_json
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option
from onnxq_cli.options import calib_option, json_option
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb(
    "onnxq build fixtures/centerpoint/backbone_neck_head.onnx -o model.engine",
    first=("out", "backend", "shapes", "calib"),
)
@click.argument("model", type=IN)
@option("-o", "--out", type=OUT, required=True, help="Where the engine goes.")
@option("--backend", type=click.Choice(["tensorrt", "tensorrt-rtx"]),
        help="Default: what is installed.")  # fmt: skip
@option("--shapes", multiple=True, metavar="NAME:MIN:OPT:MAX",
        help="Profile of a dynamic input, or NAME:SHAPE. Repeatable.")  # fmt: skip
@calib_option(required=False)
@option("--arch", help="TensorRT-RTX without a GPU: what to build for. Default: sm89.")
@option("--timing-cache", type=OUT, help="Read if there, and written back.")
@option("--workspace", type=click.IntRange(min=1), metavar="MIB", help="MiB that kernels may use.")
@option("--plugin", "plugins", type=IN, multiple=True, help="Plugin library. Repeatable.")
@option("--bisect", is_flag=True, help="If refused: find the fewest Q/DQ to take out.")
@json_option
def command(model: Path, out: Path, **options: Any) -> int:
    """Build a strongly typed engine of MODEL, and say in which precision each node runs.

    With --calib, profiles of dynamic inputs come from the data. Exit code 1 if TensorRT refuses the
    model, or a node with Q/DQ runs in another precision.
    """
    from onnxq.model import graph as graphs
    from onnxq.report import engine as report
    from onnxq.report import text
    from onnxq.trt.build import BuildOptions, build

    graph = graphs.load(model)
    shapes = options["shapes"] or _profile(model, options["calib"])
    settings = BuildOptions(
        options["backend"], shapes, options["arch"], options["timing_cache"],
        options["workspace"], options["plugins"],
    )  # fmt: skip
    with Bars() as bars:
        result = build(model, out, options=settings, progress=bars)
        document: dict[str, Any] = {
            "ok": result.ok,
            "build": {**asdict(result), "engine": str(result.engine or ""), "bytes": result.size},
            "problems": [str(p) for p in result.problems],
        }
        document |= _success(graph, result) if result.ok else _failure(graph, result)
        if options["bisect"] and not result.ok:
            from onnxq.trt.bisect import bisect

            document["remove"] = bisect(graph, settings, bars)
    document["build"].pop("problems")
    if options["as_json"]:
        streams.out(to_json(document))
    else:
        text.show(report.render(document))
    verdict = document.get("verdict", {})
    as_meant = all(n["real"] in (n["meant"], "unknown", "folded")
                   for n in verdict.get("nodes", {}).values())  # fmt: skip
    return 0 if result.ok and as_meant else 1


def _profile(model: Path, calib: tuple[str, ...]) -> tuple[str, ...]:
    """Profiles from the shapes in the calibration data."""
    if not calib:
        return ()
    from onnxq import api
    from onnxq.model.input_shapes import profile_of

    return profile_of(api.data(api.open_model(model), calib).shapes())


def _success(graph: Any, result: Any) -> dict[str, Any]:
    from onnxq.trt.engine import load_engine
    from onnxq.trt.verdict import judge

    return {"verdict": judge(graph, load_engine(result.engine)).as_dict()}


def _failure(graph: Any, result: Any) -> dict[str, Any]:
    """Each problem with the lint rule that explains it."""
    from onnxq.trt.lint import explain

    found = [explain(p.message, graph, p.node) for p in result.problems]
    lines = dict.fromkeys(str(f) for f in found if f is not None)
    return {"explained": list(lines)}
