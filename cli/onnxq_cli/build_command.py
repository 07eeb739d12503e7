"""`onnxq build`: a TensorRT engine, and what it really runs in INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.json_text import to_json
from onnxq.pipeline.config import Config
from onnxq.trt.build import BuildOptions
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of, value_of
from onnxq_cli.options import calib_option, json_option
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb(
    "onnxq build fixtures/centerpoint/backbone_neck_head.onnx -o model.engine",
    first="out backend shapes calib",
)
@click.argument("model", type=IN)
@option("-o", "--out", type=OUT, required=True, help="Where the engine goes.")
@options_of(BuildOptions)
@calib_option(required=False)
@options_of(Config, "preprocess")
@option(
    "--bisect", is_flag=True, section="Engine", help="If refused: find the fewest Q/DQ to take out."
)
@json_option()
def command(model: Path, out: Path, **options: Any) -> int:
    """Build a strongly typed engine of MODEL, and say in which precision each node runs.

    With --calib, profiles of dynamic inputs come from the data. Exit code 1 if TensorRT refuses the
    model, or a node with Q/DQ runs in another precision.
    """
    from onnxq import api
    from onnxq.report import engine as report
    from onnxq.report import text

    settings = value_of(BuildOptions, options)
    with Bars() as bars:
        found = api.build(
            model,
            out,
            settings,
            options["calib"],
            Config(preprocess=options["preprocess"]),
            bisect=options["bisect"],
            progress=bars,
        )
    if options["as_json"]:
        streams.out(to_json(found.as_dict()))
    else:
        text.show(report.render(found.as_dict()))
    return 0 if found.ok else 1
