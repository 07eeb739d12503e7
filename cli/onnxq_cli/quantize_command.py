"""`onnxq quantize`: the whole pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

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
    range_options,
)
from onnxq_cli.progress import Bars


@click.command(
    name="quantize",
    epilog="Example: onnxq quantize fixtures/centerpoint/backbone_neck_head.onnx "
    "--calib fixtures/centerpoint/calib.npy --skip deblocks",
)
@click.argument("model", type=IN)
@data_options()
@placement_options
@method_option
@range_options
@ort_library_option
@provider_option
@config_option
@click.option("-o", "--out", type=OUT, help="Default: MODEL with .int8.onnx, beside MODEL.")
@click.option("--plan", "plan_path", type=IN, help="Use this plan.yaml instead of planning.")
@click.option("--stats", "stats_path", type=IN, help="Use these statistics; the model is not run.")
@click.option("--save-plan", type=OUT, help="Write the plan (YAML).")
@click.option("--save-stats", type=OUT, help="Write the statistics (npz).")
@click.option("--save-ranges", type=OUT, help="Write the ranges (JSON).")
@click.option("--save-config", type=OUT, help="Write the composed configuration (YAML).")
@click.option("--dry-run", is_flag=True, help="Stop after the plan and print it.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest instead of tables.")
def command(**options: Any) -> int:
    """Quantize MODEL to an ONNX model with Q/DQ that TensorRT builds.

    Prints what was quantized and what stayed float and why, and how far INT8 is from FP32 on
    samples held out of the calibration data.
    """
    from onnxq import api
    from onnxq.calib.stats import Stats
    from onnxq.plan import Plan
    from onnxq.report import text

    model, calib = options.pop("model"), options.pop("calib")
    config = config_of(options)
    out = options["out"] or model.with_name(f"{model.stem}.int8.onnx")
    plan = Plan.load(options["plan_path"]) if options["plan_path"] else None
    if options["dry_run"]:
        source = api.prepare(model, config)
        made = plan or api.plan(source, config)
        _save(made, options["save_plan"])
        click.echo(made.to_yaml(), nl=False)
        return 0
    stats = Stats.load(options["stats_path"]) if options["stats_path"] else None
    with Bars() as bars:
        result = api.quantize(model, calib, config, plan_from=plan, stats_from=stats, progress=bars)
    api.write(result, out, config)
    _save(result.plan, options["save_plan"])
    _save(result.stats, options["save_stats"])
    _save(result.ranges, options["save_ranges"])
    _save(config, options["save_config"])
    result.manifest["repeat"] = _repeat(model, out, calib, config.check_samples)
    if options["as_json"]:
        click.echo(json.dumps(result.manifest, indent=1))
    else:
        text.show(text.summary(result.manifest))
    return 0


def _save(value: Any, path: Path | None) -> None:
    if path is not None:
        value.save(path)


def _repeat(model: Path, out: Path, calib: tuple[str, ...], samples: int) -> list[str]:
    sources = " ".join(f"--calib {c}" for c in calib)
    return [
        f"onnxq data --model {model} {sources} --samples {samples} -o inputs.json",
        f"polygraphy run {model} --onnxrt --load-inputs inputs.json --save-outputs float.json",
        f"polygraphy run {out} --onnxrt --load-inputs inputs.json --load-outputs float.json "
        "--compare-func simple --check-error-stat mean --atol 0.1",
    ]
