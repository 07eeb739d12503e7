"""`onnxq calibrate`: statistics and ranges alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.errors import DataError
from onnxq.json_text import to_json
from onnxq.progress import stage
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option
from onnxq_cli.old_options import say_renamed
from onnxq_cli.options import (
    calib_option,
    config_of,
    config_option,
    counting_options,
    dask_option,
    json_option,
    out_option,
    placement_options,
    plan_option,
    stats_option,
)
from onnxq_cli.paths import check_folder
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb

OWN_DATA = ("stats_path", "save_stats", "shard", "executor", "enough")


def _part(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """(K, N) of `K/N`."""
    if text is None:
        return None
    k, slash, n = text.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise DataError(f"--shard '{text}': write K/N with K from 1 to N, such as 2/8")
    return int(k), int(n)


@verb(
    "onnxq calibrate fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --save-stats stats.npz -o ranges.json",
    first="calib out method scheme target skip save_stats",
    old={"--from-stats": "--stats"},
)
@click.argument("model", type=IN)
@calib_option(required=False)
@placement_options
@counting_options
@config_option
@plan_option()
@option(
    "--save-stats",
    type=OUT,
    help="Also write the statistics, as the work goes on; after an interruption, run the same "
    "command again.",
)
@option(
    "--shard",
    metavar="K/N",
    section="Calibration",
    callback=_part,
    help="Take each Nth sample from the Kth on; 'onnxq merge-stats' adds the N statistics up.",
)
@dask_option
@stats_option("Read the ranges off these statistics; do not run the model.")
@option(
    "--from-cache",
    type=IN,
    section="Calibration",
    help="Take the ranges of TensorRT's calibration.cache; --calib is for tensors that it lacks.",
)
@option(
    "--enough",
    is_flag=True,
    section="Calibration",
    help="Say what twice the samples would change, and how many would be enough.",
)
@out_option("The ranges.", ".ranges.json")
@json_option("Print the ranges, or what --enough says, as JSON, not as a table.")
def command(model: Path, out: Path, as_json: bool, **options: Any) -> int:
    """Run MODEL over calibration data once and read the range of every tensor that needs one."""
    if options["from_cache"] is not None:
        return _from_cache(model, out, as_json, options)
    from onnxq import api
    from onnxq.calib.stats import Stats
    from onnxq.files import together
    from onnxq.plan import Plan
    from onnxq.report import text

    given = Plan.load(options["plan_path"]) if options["plan_path"] else None
    _writes_stats(options)
    counted = Stats.load(options["stats_path"]) if options["stats_path"] else None
    with Bars() as bars:
        found = api.calibrate_model(
            model, options["calib"], config_of(options), shard=options["shard"], plan_from=given,
            stats_from=counted, checkpoint=options["save_stats"], progress=bars,
            executor=options["executor"], enough=options["enough"],
        )  # fmt: skip
        ranges = found.ranges
        with stage("write"), together():
            if options["save_stats"]:
                found.stats.save(options["save_stats"])
            ranges.save(out)
    if found.enough is not None and as_json:
        streams.out(to_json(found.enough.as_dict()))
    elif found.enough is not None:
        text.show(text.enough_table(found.enough))
    elif as_json:
        streams.out(ranges.to_json().rstrip("\n"))
    else:
        text.show(text.ranges_table(ranges, found.stats.samples))
    return 0


def _writes_stats(options: dict[str, Any]) -> None:
    """Take `--stats FILE` for `--save-stats FILE`, as the last release did, where there is no FILE
    to read yet."""
    path: Path | None = options["stats_path"]
    if path is not None and options["calib"] and not path.exists():
        say_renamed("--stats of a file to write", "--save-stats")
        check_folder(path)
        options |= {"save_stats": path, "stats_path": None}


def _from_cache(model: Path, out: Path, as_json: bool, options: dict[str, Any]) -> int:
    """The ranges of a calibration cache, and what it lacks."""
    from onnxq import api
    from onnxq.plan import Plan
    from onnxq.report import text

    if given := [name for name in OWN_DATA if options[name]]:
        option = given[0].removesuffix("_path").replace("_", "-").replace("executor", "dask")
        raise DataError(f"--from-cache takes ranges that were read already; leave out --{option}")
    plan = Plan.load(options["plan_path"]) if options["plan_path"] else None
    with Bars() as bars:
        found = api.ranges_from_cache(
            model, options["from_cache"], options["calib"], config_of(options), plan_from=plan,
            progress=bars,
        )  # fmt: skip
    found.ranges.save(out)
    if as_json:
        streams.out(found.ranges.to_json().rstrip("\n"))
    else:
        text.show(text.cache_table(found.found, found.counted))
    for name in found.missing:
        streams.err(f"onnxq: '{name}' is not in the cache and has no range; what reads it stays "
                    "float, unless --calib DATA counts it")  # fmt: skip
    return 0
