"""`onnxq report`: one HTML page of a quantized model and what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq_cli.fields import IN, OUT, option
from onnxq_cli.options import command_line, draw_option, layers_options, out_option
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb("onnxq report model.int8.onnx -o report.html",
      first="out manifest stats ranking search engine comparison")  # fmt: skip
@click.argument("model", type=IN)
@option("--manifest", type=IN, help="Default: MODEL.manifest.json, where there is one.")
@option("--float-model", type=IN, help="The float model, for the rounding error of weights. "
        "Default: the file of that name beside MODEL.")  # fmt: skip
@option("--stats", type=IN, help="Statistics (npz): histograms, and every method's range.")
@option("--ranking", type=IN, help="What 'onnxq sensitivity -o ranking.json' wrote.")
@option("--search", type=IN, help="What 'onnxq search --pareto search.json' wrote.")
@option("--engine", type=IN, help="What 'onnxq build --json' printed, or the engine itself.")
@option("--fleet", type=IN, help="What 'onnxq build --arch all --json' printed.")
@layers_options
@option("--float-profile", type=IN, section="Engine",
        help="Times of the float model's engine: the latency before.")  # fmt: skip
@option("--comparison", type=IN, help="What 'onnxq compare --json' printed.")
@option("--golden", type=IN,
        help="What 'onnxq compare --save-golden' wrote: samples, as pictures.")  # fmt: skip
@draw_option
@option("--compare", type=IN, metavar="OTHER.onnx",
        help="Another quantized model of the same float model, to show beside it.")  # fmt: skip
@option("--badge", type=OUT, metavar="FILE.svg", help="Write the verdict as a badge, too.")
@option("--markdown", type=OUT, metavar="FILE.md",
        help="Write a summary for a pull request, too.")  # fmt: skip
@out_option("The page.", ".html")
def command(
    model: Path, out: Path, badge: Path | None, markdown: Path | None, **options: Any
) -> int:
    """Write one self-contained HTML page about MODEL, which has Q/DQ.

    The graph, every node and tensor, and a section for whatever else is given. The page needs no
    network, and is readable on a phone and in print.
    """
    from onnxq import api
    from onnxq.report.html.gathering import Sources

    with Bars():
        api.write_report(model, out, Sources(**options), command_line(), badge, markdown)
    return 0
