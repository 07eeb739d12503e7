"""`onnxq plot`: single plots for papers and reports, from what other commands saved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq_cli.fields import IN, OUT, option, together

if TYPE_CHECKING:
    from onnxq.report.figure import Look


def _plot_name(path: Path, options: Mapping[str, Any]) -> Path:
    """Beside what is read; a histogram has its tensor's name, as far as a file may have it."""
    tensor = (
        "." + re.sub(r"[^\w.-]+", "_", options["tensor"]).strip("_.") if "tensor" in options else ""
    )
    return path.with_name(f"{path.stem}{tensor}.png")


shared_options = together(
    option("-o", "--out", type=OUT, named=_plot_name,
           help="The plot, as .png, .svg or .pdf. Default: the file that is read, with .png."),
    option("--title", help='Over the plot; "" for none. Default: what it shows.'),
    option("--width", type=float, default=7.0, show_default=True, metavar="INCHES",
           help="As printed: text keeps its size. 3.5 is one of two columns."),
)  # fmt: skip


@click.group(
    epilog="Example: onnxq plot histogram a.npz image -o image.png",
)
def command() -> None:
    """Draw a histogram, a ranking or a search for papers and reports.

    PNG, SVG or PDF by the suffix. Equal input gives equal bytes. Needs matplotlib: pip install
    "onnxq[plot]".
    """


@command.command(
    name="histogram",
    short_help="Draw a tensor's values and the range of each method.",
    epilog="Example: onnxq plot histogram stats.npz image --method max --method mse -o image.pdf",
)
@click.argument("stats", type=IN)
@click.argument("tensor")
@option("--method", "methods", multiple=True, metavar="METHOD",
        help="Draw the range of this method. Repeatable. Default: max, percentile, mse, "
        "entropy.")  # fmt: skip
@option("--ranges", "ranges_path", type=IN, help="Draw the range in this ranges.json too.")
@option("--dtype", type=click.Choice(["int8", "uint8", "int16", "int4", "fp8"]),
        default="int8", show_default=True, help="What the values become.")  # fmt: skip
@shared_options
def histogram(stats: Path, tensor: str, out: Path, **options: Any) -> None:
    """Draw the values of TENSOR, and what the range of each method costs.

    STATS is what onnxq calibrate --save-stats writes. The error is the expected one of the counted
    values.
    """
    from onnxq import api

    methods, ranges = options["methods"], options["ranges_path"]
    api.plot_histogram(stats, tensor, out, methods, ranges, options["dtype"], _look(options))


@command.command(
    name="sensitivity",
    short_help="Draw the bars of a ranking.",
    epilog="Example: onnxq plot sensitivity ranking.csv --top 20 -o ranking.svg",
)
@click.argument("ranking", type=IN)
@option("--top", type=click.IntRange(min=1), metavar="N", default=30, show_default=True,
        help="Draw this many of the worst.")  # fmt: skip
@shared_options
def sensitivity(ranking: Path, top: int, out: Path, **options: Any) -> None:
    """Draw the bars of RANKING, which onnxq sensitivity -o wrote.

    A .json knows its metric, and its curve is drawn beside the bars; a .csv knows neither.
    """
    from onnxq import api

    api.plot_ranking(ranking, out, top, _look(options))


@command.command(
    name="pareto",
    short_help="Draw the cost against the score of a search.",
    epilog="Example: onnxq plot pareto result.json -o front.svg",
)
@click.argument("result", type=IN)
@shared_options
def pareto(result: Path, out: Path, **options: Any) -> None:
    """Draw cost against score of RESULT, which onnxq search --pareto wrote as .json.

    Filled points keep to the budget.
    """
    from onnxq import api

    api.plot_pareto(result, out, _look(options))


def _look(options: dict[str, Any]) -> Look:
    """Title and width."""
    from onnxq.report.figure import Look

    return Look(options["title"], options["width"])
