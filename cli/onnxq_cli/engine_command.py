"""`onnxq engine`: what TensorRT's own layer info and profile say, node by node."""

from __future__ import annotations

from pathlib import Path

import click

from onnxq.errors import OnnxqError
from onnxq.files import write_text
from onnxq.json_text import to_json
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option
from onnxq_cli.options import json_option, top_option
from onnxq_cli.sections import verb


@verb("onnxq engine layers.json --profile profile.json")
@click.argument("layers", nargs=-1, required=True, type=IN, metavar="LAYERS [LAYERS]")
@option("--profile", "profiles", type=IN, multiple=True, help="Times of the layers, by trtexec "
        "--exportProfile. With two LAYERS: twice, in their order.")  # fmt: skip
@option("--model", type=IN, help="The ONNX model it was built from; of two, the last.")
@top_option(10, "Rows of each table.")
@option("--write-skip", type=OUT, help="With two LAYERS: list of what is slower in fewer bits, "
        "for quantize --skip @FILE.")  # fmt: skip
@json_option()
def command(
    layers: tuple[Path, ...],
    profiles: tuple[Path, ...],
    model: Path | None,
    top: int,
    write_skip: Path | None,
    as_json: bool,
) -> int:
    """Show what an engine runs each node in, how long that takes, and what to change.

    LAYERS is the file of trtexec --exportLayerInfo=FILE --profilingVerbosity=detailed, or of
    TensorRT's engine inspector. Two of them, each with its --profile, are compared: what got slower
    in the second, and why.
    """
    from onnxq import api
    from onnxq.report import layers as report
    from onnxq.report import text

    _check(layers, profiles, write_skip)
    pairs = list(zip(layers, profiles or (None,) * len(layers), strict=True))
    readings = [
        api.read_layers(path, times, model if i == len(pairs) - 1 else None)
        for i, (path, times) in enumerate(pairs)
    ]
    if len(readings) == 1:
        (reading,) = readings
        if as_json:
            streams.out(to_json(reading.as_dict()))
        else:
            text.show(report.render(reading, top))
        return 0
    found = api.compare_layers(*readings)
    if write_skip is not None:
        write_text(write_skip, found.skip_list())
    if as_json:
        streams.out(to_json(found.as_dict()))
    else:
        text.show(report.render_comparison(found, top))
    return 0


def _check(layers: tuple[Path, ...], profiles: tuple[Path, ...], skip: Path | None) -> None:
    if len(layers) > 2:
        raise OnnxqError(f"{len(layers)} files; give the layers of one engine, or of two")
    if len(profiles) not in ((0, 1) if len(layers) == 1 else (2,)):
        raise OnnxqError(f"{len(layers)} x LAYERS and {len(profiles)} x --profile; give a "
                         "--profile for each, in the same order")  # fmt: skip
    if skip is not None and len(layers) == 1:
        raise OnnxqError(
            "--write-skip lists what is slower than in another engine; give two LAYERS"
        )
