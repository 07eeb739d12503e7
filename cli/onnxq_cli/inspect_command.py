"""`onnxq inspect`: what is quantized, how and why (or why not)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq.json_text import to_json
from onnxq_cli import streams
from onnxq_cli.completion import complete_nodes
from onnxq_cli.fields import IN, option
from onnxq_cli.options import (
    calib_option,
    config_of,
    json_option,
    layers_options,
    running_options,
)
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from onnxq.verbs.models import Inspection


@verb(
    "onnxq inspect model.int8.onnx layer1",
    first="everything calib manifest layers profile",
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
@layers_options
@json_option()
def command(
    model: Path,
    pattern: str | None,
    everything: bool,
    manifest: Path | None,
    layers: Path | None,
    profile: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Show what of MODEL is quantized, how and why, whichever tool wrote it.

    Without NODE: coverage by op type, why nodes are float, and every node's precision and scale.
    NODE is a whole name or a pattern as for --skip. For one node, or one TENSOR, all that is known
    is printed. Reasons come from the manifest beside MODEL; without one, onnxq's own rules say what
    onnxq would do. --calib measures what the scales clip.
    --layers says what TensorRT ran each node in, and --profile for how long.
    """
    from onnxq import api
    from onnxq.inspect.reading import readable
    from onnxq.report import text

    config, calib = config_of(options), options["calib"]
    with Bars() as bars:
        found = api.inspect_model(
            model, pattern, manifest=manifest, calib=calib, config=config, layers=layers,
            profile=profile, progress=bars,
        )  # fmt: skip
        with readable(model):
            document = found.as_dict()
            shown = _text(found, document, everything)
    if as_json:
        streams.out(to_json(document))
    else:
        text.show(shown)
    return 0


def _text(found: Inspection, document: dict[str, Any], everything: bool) -> RenderableType:
    from onnxq.report import inspection

    if found.nodes is None:
        return inspection.model_text(document, everything)
    if "nodes" in document:
        return inspection.nodes_text(document["nodes"])
    if "tensors" in document:
        return inspection.tensors_text(document["tensors"])
    return inspection.node_text(document) if found.nodes else inspection.tensor_text(document)
