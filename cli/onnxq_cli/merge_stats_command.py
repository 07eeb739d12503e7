"""`onnxq merge-stats`: shards of statistics added up."""

from __future__ import annotations

from pathlib import Path

import click

from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option
from onnxq_cli.paths import beside
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb("onnxq merge-stats a.npz b.npz -o all.npz")
@click.argument("stats", type=IN, nargs=-1, required=True)
@option("-o", "--out", type=OUT, named=beside(".merged.npz"),
        help="The sum. Default: the first of STATS with .merged.npz.")  # fmt: skip
def command(stats: tuple[Path, ...], out: Path) -> int:
    """Add up STATS of one model: exactly the statistics of one run over all the data."""
    from onnxq import api
    from onnxq.words import count

    with Bars():
        merged = api.merge_stats(stats)
        merged.save(out)
    found = {"file": len(stats), "sample": merged.samples, "tensor": len(merged.histograms)}
    counted = ", ".join(count(n, noun) for noun, n in found.items())
    streams.out(counted)
    return 0
