"""`onnxq build`: a TensorRT engine, and what it really runs in INT8."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from onnxq.errors import OnnxqError
from onnxq.json_text import to_json
from onnxq.pipeline.config import Config
from onnxq.trt.build import BuildOptions
from onnxq_cli import streams
from onnxq_cli.fields import IN, option, options_of, value_of
from onnxq_cli.options import calib_option, json_option, out_option
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


def _is_fleet(arch: str | None) -> bool:
    return arch is not None and (arch == "all" or "," in arch)


def _engine_name(model: Path, options: Mapping[str, Any]) -> Path | None:
    """Where the engine goes by default; None where none is kept."""
    return None if _is_fleet(options["arch"]) else model.with_suffix(".engine")


@verb(
    "onnxq build fixtures/centerpoint/backbone_neck_head.onnx -o model.engine",
    first="out backend shapes calib",
)
@click.argument("model", type=IN)
@out_option("The engine. Default: MODEL with .engine.", named=_engine_name)
@options_of(BuildOptions)
@calib_option(required=False)
@options_of(Config, "preprocess")
@option(
    "--bisect", is_flag=True, section="Engine", help="If refused: find the fewest Q/DQ to take out."
)
@option(
    "--layers",
    "told",
    metavar="ARCH=FILE",
    multiple=True,
    section="Engine",
    help="With several --arch: what trtexec --exportLayerInfo wrote on that GPU. Repeatable.",
)
@json_option()
def command(model: Path, out: Path | None, **options: Any) -> int:
    """Build a strongly typed engine of MODEL, and say in which precision each node runs.

    With --calib, profiles of dynamic inputs come from the data. Exit code 1 if TensorRT refuses the
    model, or a node with Q/DQ runs in another precision.

    --arch all, or several separated by commas, says whether each GPU takes the model, as it is and
    with FP16 around; no engine is kept. Exit code 1 if one refuses it.
    """
    from onnxq import api
    from onnxq.report import engine as report
    from onnxq.report import text

    settings = value_of(BuildOptions, options)
    if _is_fleet(settings.arch):
        return _fleet(model, out, settings, options)
    if options["told"]:
        raise OnnxqError("--layers adds a column to those of --arch; give several --arch, or all")
    if out is None:
        raise OnnxqError(f"'{model}' has no name to call an engine by; give -o")
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


def _fleet(model: Path, out: Path | None, settings: BuildOptions, options: dict[str, Any]) -> int:
    """A matrix of architectures."""
    from onnxq import api
    from onnxq.report import fleet as report
    from onnxq.report import text

    if out is not None or options["calib"] or options["bisect"]:
        raise OnnxqError("several --arch are tried and no engine is kept: leave out -o, --calib "
                         "and --bisect, and give --shapes for dynamic inputs")  # fmt: skip
    layers = {}
    for said in options["told"]:
        arch, is_one, file = said.partition("=")
        if not (is_one and file and re.fullmatch(r"sm\d{2,3}", arch)):
            raise OnnxqError(f"--layers '{said}': write ARCH=FILE, such as sm87=layers.json")
        layers[arch] = file
    with Bars() as bars:
        found = api.build_fleet(model, settings.arch or "all", settings, layers, progress=bars)
    if options["as_json"]:
        streams.out(to_json(found.as_dict()))
    else:
        text.show(report.render(found))
    return 0 if found.ok else 1
