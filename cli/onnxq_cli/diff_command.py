"""`onnxq diff`: two quantized models, node by node and scale by scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.json_text import to_json
from onnxq_cli import streams
from onnxq_cli.fields import IN, option
from onnxq_cli.options import calib_option, config_of, json_option, running_options, top_option
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb(
    "onnxq diff model.int8.onnx quantized.onnx",
    first="calib reference top",
)
@click.argument("a", type=IN)
@click.argument("b", type=IN)
@calib_option(required=False)
@option("--reference", metavar="FLOAT", type=IN, help="With --calib: measure A and B against "
        "this float model too.")  # fmt: skip
@running_options
@top_option(20, "Rows of each table, the largest changes first.")
@json_option("Print JSON instead of tables: every row.")
def command(
    a: Path, b: Path, reference: Path | None, top: int, as_json: bool, **options: Any
) -> int:
    """Show how the models A and B differ in placement, scales, weights and constants.

    Nodes are matched by name, whichever tools wrote the models. --calib also runs both and says
    how far B's outputs are from A's. Exit code 0 if nothing differs, 1 if something does.
    """
    from onnxq import api
    from onnxq.report import difference as report
    from onnxq.report import text

    with Bars() as bars:
        found = api.diff(a, b, options["calib"], reference, config_of(options), bars)
    if as_json:
        streams.out(to_json(found.as_dict()))
    else:
        text.show(report.render(found, top))
    return 0 if found.equal else 1
