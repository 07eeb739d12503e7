"""`onnxq prepare`: the graph passes alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from onnxq.json_text import to_json
from onnxq_cli import streams
from onnxq_cli.fields import IN, option
from onnxq_cli.options import json_option, out_option
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb("onnxq prepare fixtures/classifier/classifier.onnx -o prepared.onnx")
@click.argument("model", type=IN)
@out_option("The prepared model.", ".prepared.onnx")
@option("--requantize", is_flag=True, help="Take out the Q/DQ of a quantized MODEL first.")
@option("--fix", multiple=True, metavar="NAME=VALUE", help="Make an input a constant.")
@json_option("Print JSON instead of a table.")
def command(model: Path, out: Path, requantize: bool, fix: tuple[str, ...], as_json: bool) -> int:
    """Fold BatchNorm and constants, name every node, raise the opset, as before planning."""
    from onnxq import api
    from onnxq.model import graph
    from onnxq.pipeline.config import Config
    from onnxq.report import text
    from onnxq.table import Table

    with Bars():
        before = graph.load(model)
        source = api.prepare(model, Config(requantize=requantize, fix=fix))
        api.write_prepared(source, out)
    ops = (Counter(n.op for n in before.nodes), Counter(n.op for n in source.graph.nodes))
    if as_json:
        document = {"before": dict(ops[0]), "after": dict(ops[1]), "notes": list(source.notes)}
        streams.out(to_json(document))
        return 0
    changed = [(op, ops[0][op], ops[1][op]) for op in sorted(ops[0] | ops[1])]
    rows = [row for row in changed if row[1] != row[2]]
    rows.append(("all nodes", len(before.nodes), len(source.graph.nodes)))
    text.show(Table(f"{model.name} -> {out.name}", ("op", "before", "after"), rows))
    return 0
