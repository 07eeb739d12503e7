"""`onnxq diff`: two quantized models, node by node and scale by scale."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq.errors import DataError
from onnxq.json_text import to_json
from onnxq.progress import Count
from onnxq_cli import streams
from onnxq_cli.fields import IN, option
from onnxq_cli.options import calib_option, config_of, running_options, top_option
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb

if TYPE_CHECKING:
    from onnxq.calib.data import Dataset
    from onnxq.judge.accuracy import Agreements
    from onnxq.pipeline.config import Config
    from onnxq.run.runtime import Runtime


@verb(
    "onnxq diff model.int8.onnx quantized.onnx",
    first=("calib", "reference", "top"),
)
@click.argument("a", type=IN)
@click.argument("b", type=IN)
@calib_option(required=False)
@option("--reference", metavar="FLOAT", type=IN, help="With --calib: measure A and B against "
        "this float model too.")  # fmt: skip
@running_options
@top_option(20, "Rows of each table, the largest changes first.")
@option("--json", "as_json", is_flag=True, help="Print JSON instead of tables: every row.")
def command(
    a: Path, b: Path, reference: Path | None, top: int, as_json: bool, **options: Any
) -> int:
    """Show how the models A and B differ in placement, scales, weights and constants.

    Nodes are matched by name, whichever tools wrote the models. --calib also runs both and says
    how far B's outputs are from A's. Exit code 0 where nothing differs, 1 where something does.
    """
    from onnxq.inspect.difference import difference
    from onnxq.inspect.reading import read, readable
    from onnxq.report import difference as report
    from onnxq.report import text

    calib = options.pop("calib")
    if reference is not None and not calib:
        raise DataError("--reference is measured on data: give --calib DATA too")
    with readable(a, b):
        found = difference(read(a), read(b))
    if calib:
        config = config_of(options)
        effect, troubles = _effect(a, b, reference, calib, config)
        found = replace(found, effect=effect, troubles=troubles)
    if as_json:
        streams.out(to_json(found.as_dict()))
    else:
        text.show(report.render(found, top))
    return 0 if found.equal else 1


def _effect(
    a: Path, b: Path, reference: Path | None, calib: tuple[str, ...], config: Config
) -> tuple[dict[str, Agreements], dict[str, str]]:
    """Which models -> output -> how far they are from each other on data; and which models a plain
    session cannot run, and why."""
    from onnxq import api
    from onnxq.judge.plain import plainly

    dataset = api.data(api.open_model(reference or a), calib, config)
    pairs = {"B against A": (a, b)}
    if reference is not None:
        pairs |= {"A against FLOAT": (reference, a), "B against FLOAT": (reference, b)}
    found: dict[str, Agreements] = {}
    troubles: dict[str, str] = {}
    with Bars() as bars:
        for pair, models in pairs.items():
            one = partial(_measured, models, dataset, partial(bars, pair))
            found[pair], trouble = plainly(one, api.runtime_of(config))
            troubles |= {pair: trouble} if trouble else {}
    return found, troubles


def _measured(
    models: tuple[Path, Path], dataset: Dataset, bar: Count, runtime: Runtime
) -> Agreements:
    from onnxq.judge import accuracy

    steps, total = iter(range(1, 2 * len(dataset) + 1)), 2 * len(dataset)
    return accuracy.measure(*models, dataset, lambda: bar(next(steps), total), runtime)
