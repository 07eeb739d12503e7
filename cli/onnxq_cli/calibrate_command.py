"""`onnxq calibrate`: statistics and ranges alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.calib.data import Dataset
from onnxq.errors import DataError, PlanError
from onnxq_cli import streams
from onnxq_cli.cluster_option import dask_option
from onnxq_cli.configuring import config_of
from onnxq_cli.options import (
    IN,
    OUT,
    config_option,
    data_options,
    method_option,
    ort_library_option,
    placement_options,
    provider_option,
)
from onnxq_cli.progress import Bars


def _part(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """(K, N) of `K/N`."""
    if text is None:
        return None
    k, slash, n = text.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise DataError(f"--shard '{text}': write K/N with K from 1 to N, such as 2/8")
    return int(k), int(n)


def _shard(dataset: Dataset, part: tuple[int, int] | None) -> Dataset:
    if part is None:
        return dataset
    k, n = part
    if k > len(dataset):
        raise DataError(f"--shard {k}/{n}: there are {len(dataset)} samples; use fewer shards")
    return dataset.select(list(range(k - 1, len(dataset), n)))


@click.command(
    name="calibrate",
    short_help="Write the ranges of MODEL's tensors to ranges.json.",
    epilog="Example: onnxq calibrate fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --stats stats.npz -o ranges.json",
)
@click.argument("model", type=IN)
@data_options(required=False)
@placement_options
@method_option
@ort_library_option
@provider_option
@config_option
@click.option("--plan", "plan_path", type=IN, help="Use this plan.yaml instead of planning.")
@click.option(
    "--stats",
    "stats_path",
    type=OUT,
    help="Write the statistics too, as the work goes "
    "on: the same command goes on where it was interrupted.",
)
@click.option(
    "--shard",
    metavar="K/N",
    callback=_part,
    help="Take each Nth sample from the Kth on; 'onnxq merge-stats' adds the N statistics up.",
)
@dask_option
@click.option("--from-stats", type=IN, help="Read a method off saved statistics; no model is run.")
@click.option("-o", "--out", type=OUT, required=True, help="Where ranges.json goes.")
@click.option("--json", "as_json", is_flag=True, help="Print the ranges as JSON, not as a table.")
def command(model: Path, out: Path, as_json: bool, **options: Any) -> int:
    """Run MODEL over calibration data once and read the range of every tensor that needs one."""
    from onnxq import api
    from onnxq.calib.stats import Stats
    from onnxq.files import together
    from onnxq.plan import Plan
    from onnxq.report import text

    calib, from_stats = options.pop("calib"), options["from_stats"]
    if bool(calib) == bool(from_stats):
        raise DataError("give either --calib DATA or --from-stats stats.npz")
    config = config_of(options)
    if config.method.strip().lower() == "auto":
        raise PlanError("method 'auto' is judged at the model's outputs: use 'onnxq quantize'")
    given = Plan.load(options["plan_path"]) if options["plan_path"] else None
    source = api.prepare(model, config, given)
    plan = given or api.plan(source, config)
    plan.check_model(source.sha256)
    if from_stats:
        stats = Stats.load(from_stats)
        stats.check_model(source.sha256)
    else:
        with Bars() as bars:
            dataset = api.data(source, calib, config)
            dataset = _shard(dataset, options["shard"])
            kept, executor = options["stats_path"], options["executor"]
            stats = api.calibrate(source, plan, dataset, config, bars, kept, executor)
    ranges = api.read(source, plan, stats, config.method)
    with together():
        if options["stats_path"]:
            stats.save(options["stats_path"])
        ranges.save(out)
    if as_json:
        streams.out(ranges.to_json().rstrip("\n"))
    else:
        text.show(text.ranges_table(ranges, stats.samples))
        streams.out(f"written to {out}")
    return 0
