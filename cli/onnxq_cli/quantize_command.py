"""`onnxq quantize`: the whole pipeline."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq.json_text import to_json
from onnxq.pipeline.config import Config
from onnxq.progress import stage
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of
from onnxq_cli.next_step import following
from onnxq_cli.options import (
    calib_option,
    command_line,
    config_of,
    config_option,
    json_option,
    out_option,
    placement_options,
    plan_option,
    quantized_name,
    report_option,
    stats_option,
)
from onnxq_cli.paths import say_written
from onnxq_cli.progress import Bars
from onnxq_cli.repeat import lines
from onnxq_cli.sections import verb

if TYPE_CHECKING:
    from onnxq.api import Quantized
    from onnxq.plan import Plan

SAVED = ("save_plan", "save_stats", "save_ranges", "save_config")


@verb(
    "onnxq quantize fixtures/centerpoint/backbone_neck_head.onnx "
    "--calib fixtures/centerpoint/calib.npy --skip deblocks",
    first="calib out method scheme target recover skip high_precision",
)
@click.argument("model", type=IN)
@calib_option(required=False)
@placement_options
@options_of(Config)
@config_option
@out_option("Default: MODEL with .int8.onnx or .SCHEME.onnx.", named=quantized_name)
@plan_option()
@stats_option("Use these statistics; the model is not run.")
@option("--ranges", "ranges_path", type=IN, section="Calibration", help="Use these ranges, "
        "such as those of a calibration cache; what they lack stays float.")  # fmt: skip
@option("--save-plan", type=OUT, help="Write the plan (YAML).")
@option("--save-stats", type=OUT, help="Write the statistics (npz).")
@option("--save-ranges", type=OUT, help="Write the ranges (JSON).")
@option("--save-config", type=OUT, help="Write the composed configuration (YAML).")
@report_option
@option("--repeat", is_flag=True, help="Print the Polygraphy lines that repeat the comparison.")
@option("--dry-run", is_flag=True, help="Stop after the plan and print it.")
@json_option("Print JSON: the manifest, or with --dry-run the plan.")
def command(**options: Any) -> int:
    """Quantize MODEL to an ONNX model with Q/DQ that TensorRT builds.

    Prints what was quantized, what stayed float and why, and how far INT8 is from FP32 on
    held-out samples.
    """
    from onnxq import api
    from onnxq.calib.ranges import Ranges
    from onnxq.calib.stats import Stats
    from onnxq.plan import Plan
    from onnxq.report import text

    model, calib, config = options["model"], options["calib"], config_of(options)
    out = options["out"]
    plan = Plan.load(options["plan_path"]) if options["plan_path"] else None
    if options["dry_run"]:
        return _planned(model, config, plan, options)
    if not calib:
        raise click.UsageError("Missing option '--calib'.")
    stats = Stats.load(options["stats_path"]) if options["stats_path"] else None
    ranges = Ranges.load(options["ranges_path"]) if options["ranges_path"] else None
    with Bars() as bars:
        result = api.quantize(
            model,
            calib,
            config,
            plan_from=plan,
            stats_from=stats,
            ranges_from=ranges,
            progress=bars,
        )
        told = (model, out, calib, config)
        plain = config.io == "keep" and result.record.agreement["session"] == "plain"
        plain = plain and "feedback" not in result.record.data  # Polygraphy feeds nothing back
        repeat = lines(*told, result.agreement) if plain else None
        result = result.told(repeat, following(*told, result.verdict))
        result = _write(result, out, config, options)
    if options["as_json"]:
        streams.out(to_json(result.manifest))
    else:
        say_written()
        verbose = logging.getLogger("onnxq").isEnabledFor(logging.INFO)
        text.show(text.summary(result.manifest, repeat=options["repeat"] or verbose))
    return 0


def _planned(model: Path, config: Config, plan: Plan | None, options: dict[str, Any]) -> int:
    """Stop after the plan: write it where that is asked for, and print it."""
    from onnxq import api

    with Bars():
        source = api.prepare(model, config, plan)
        made = plan or api.plan(source, config)
    made.check_model(source.sha256)
    _save(made, options["save_plan"])
    streams.out(_plan_json(made) if options["as_json"] else made.to_yaml().rstrip("\n"))
    return 0


def _write(result: Quantized, out: Path, config: Config, options: dict[str, Any]) -> Quantized:
    """Write the model and all that was asked for beside it, all or none; the result as written."""
    from onnxq import api
    from onnxq.files import together

    with stage("write"), together():
        result = api.write(result, out, config)
        values = (result.plan, result.stats, result.ranges, config)
        for key, value in zip(SAVED, values, strict=True):
            _save(value, options[key])
        if options["report"] is not None:
            from onnxq.report.html import verbs, write_page

            found = verbs.quantized(result, out.name, command_line(), options["model"])
            shown = verbs.pictured(result, options["model"], config)
            write_page(replace(found, pictures=shown), options["report"])
    return result


def _save(value: Any, path: Path | None) -> None:
    if path is not None:
        value.save(path)


def _plan_json(plan: Plan) -> str:
    """What `plan.yaml` says, as JSON."""
    import yaml

    return to_json(yaml.safe_load(plan.to_yaml()))
