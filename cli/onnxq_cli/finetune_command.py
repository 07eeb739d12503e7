"""`onnxq finetune`: quantize, and learn against the float model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from onnxq.finetune.options import FinetuneOptions
from onnxq.json_text import to_json
from onnxq.pipeline.config import Config
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of, value_of
from onnxq_cli.next_step import following
from onnxq_cli.options import (
    calib_option,
    config_of,
    config_option,
    json_option,
    out_option,
    placement_options,
    plan_option,
    quantized_name,
    stats_option,
)
from onnxq_cli.paths import say_written
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


def _state_name(model: Path, options: Mapping[str, Any]) -> Path:
    out: Path = options["out"] or quantized_name(model, options)
    return out.with_name(f"{out.name}.finetune.npz")


@verb(
    "onnxq finetune fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --scheme w4a8 --steps 50",
    first="calib out scheme steps epochs samples recover target skip",
)
@click.argument("model", type=IN)
@calib_option()
@placement_options
@options_of(FinetuneOptions)
@options_of(Config)
@config_option
@out_option("Default: MODEL with .int8.onnx or .SCHEME.onnx.", named=quantized_name)
@option("--state", type=OUT, named=_state_name, help="Keep finished blocks here until the model is "
        "written; the same command goes on from them. Default: OUT with "
        ".finetune.npz.")  # fmt: skip
@plan_option()
@stats_option("Use these statistics; do not calibrate.")
@json_option("Print JSON: the manifest.")
def command(**options: Any) -> int:
    """Quantize MODEL, and learn roundings, ranges and biases block by block against the float
    model, without labels; needs onnxq[finetune].

    Samples that take no part in learning judge it: what is no better on them is undone, block by
    block and as a whole.
    """
    from onnxq import api
    from onnxq.calib.stats import Stats
    from onnxq.files import together
    from onnxq.plan import Plan
    from onnxq.report import text

    model: Path = options["model"]
    calib, config = options["calib"], config_of(options)
    out, state = options["out"], options["state"]
    plan = Plan.load(options["plan_path"]) if options["plan_path"] else None
    stats = Stats.load(options["stats_path"]) if options["stats_path"] else None
    with Bars() as bars:
        result = api.finetune_model(
            model, calib, config, value_of(FinetuneOptions, options), plan_from=plan,
            stats_from=stats, state=state, progress=bars,
        )  # fmt: skip
    result = result.told(None, following(model, out, calib, config, result.verdict))
    with together():
        result = api.write(result, out, config)
    state.unlink(missing_ok=True)
    if options["as_json"]:
        streams.out(to_json(result.manifest))
        return 0
    say_written()
    text.show(text.blocks_table(result.manifest))
    text.show(text.summary(result.manifest))
    return 0
