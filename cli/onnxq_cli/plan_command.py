"""`onnxq plan`: the decisions alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.json_text import to_json
from onnxq_cli import streams
from onnxq_cli.fields import IN
from onnxq_cli.options import (
    config_of,
    config_option,
    json_option,
    out_option,
    placement_options,
)
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb(
    "onnxq plan fixtures/centerpoint/backbone_neck_head.onnx -o plan.yaml",
    first="out scheme target skip",
)
@click.argument("model", type=IN)
@placement_options
@config_option
@out_option("The plan.", ".plan.yaml")
@json_option("Print JSON instead of a table.")
def command(model: Path, out: Path, as_json: bool, **options: Any) -> int:
    """Decide where MODEL is quantized, and write why (and why not) to plan.yaml."""
    from onnxq import api
    from onnxq.pipeline import manifest
    from onnxq.report import text

    config = config_of(options)
    with Bars():
        source = api.prepare(model, config)
        made = api.plan(source, config)
    made.save(out)
    counts = manifest.node_counts(source.graph, made)
    if as_json:
        streams.out(to_json(counts))
    else:
        text.show(text.nodes_table(counts))
    return 0
