"""`onnxq inspect`: what is quantized, how and why (or why not)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.json_text import to_json
from onnxq_cli import streams
from onnxq_cli.completion import complete_nodes
from onnxq_cli.fields import IN, option
from onnxq_cli.options import calib_option, config_of, json_option, running_options
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb(
    "onnxq inspect model.int8.onnx layer1",
    first=("everything", "calib", "manifest"),
)
@click.argument("model", type=IN)
@click.argument("pattern", metavar="[NODE|TENSOR]", required=False,
                shell_complete=complete_nodes)  # fmt: skip
@option("--all", "everything", is_flag=True, help="List every node, not only those that are "
        "quantized or have weights.")  # fmt: skip
@option("--manifest", type=IN, help="Take the reasons from this manifest. Default: the one "
        "beside MODEL.")  # fmt: skip
@calib_option(required=False)
@running_options
@json_option
def command(
    model: Path,
    pattern: str | None,
    everything: bool,
    manifest: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Show what of MODEL is quantized, how and why, whichever tool wrote it.

    Without NODE: coverage by op type, why nodes are float, and every node's precision and scale.
    NODE is a whole name or a pattern as for --skip; of one node, or one TENSOR, everything known
    is printed. Reasons come from the manifest beside MODEL; without one, onnxq's own rules are run
    and say what onnxq would do. --calib measures what the scales clip.
    """
    from onnxq import api
    from onnxq.inspect import describe as documents
    from onnxq.inspect.choose import choose
    from onnxq.inspect.clipping import clipping
    from onnxq.inspect.reading import read, readable
    from onnxq.inspect.reasons import reasons_of
    from onnxq.report import inspection, text

    reading = read(model)
    nodes, tensors = choose(reading, pattern) if pattern is not None else ([], [])
    reasons = reasons_of(reading, manifest)
    clipped = None
    if options["calib"]:
        config = config_of({k: v for k, v in options.items() if k != "calib"})
        dataset = api.data(api.open_model(model), options["calib"], config)
        with Bars() as bars:
            clipped = clipping(reading, dataset, config, bars)
    with readable(model):
        if pattern is None:
            found = documents.describe(reading, reasons, clipped)
            shown = inspection.model_text(found, everything)
        elif len(nodes) == 1:
            found = documents.describe_node(reading, nodes[0], reasons, clipped)
            shown = inspection.node_text(found)
        elif len(tensors) == 1:
            found = documents.describe_tensor(reading, tensors[0], reasons, clipped)
            shown = inspection.tensor_text(found)
        elif nodes:
            found = {
                "nodes": [documents.describe_node(reading, n, reasons, clipped) for n in nodes]
            }
            shown = inspection.nodes_text(found["nodes"])
        else:
            all_of = [documents.describe_tensor(reading, t, reasons, clipped) for t in tensors]
            found = {"tensors": all_of}
            shown = inspection.tensors_text(all_of)
    if as_json:
        streams.out(to_json(found))
    else:
        text.show(shown)
    return 0
