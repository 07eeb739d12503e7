"""`onnxq search`: a mixed-precision plan under a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq.pipeline.config import Config
from onnxq.search.options import SearchOptions
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of
from onnxq_cli.options import (
    calib_option,
    command_line,
    config_option,
    dask_option,
    json_option,
    out_option,
    placement_options,
    plan_option,
    report_option,
    stats_option,
)
from onnxq_cli.paths import say_written
from onnxq_cli.progress import Bars
from onnxq_cli.searching import (
    evaluation_of,
    goal_options,
    measuring,
    quantize_line,
    search_config,
)
from onnxq_cli.sections import verb

if TYPE_CHECKING:
    from onnxq.verbs.searching import Searched


@verb(
    "onnxq search fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --min-sqnr 30 -o plan.yaml",
    first="calib out max_drop min_sqnr max_cost choices metric target skip",
)
@click.argument("model", type=IN)
@calib_option()
@goal_options
@option("--max-cost", type=float, metavar="SHARE", section="Search",
        help="Largest cost, as a share of the float model's.")  # fmt: skip
@options_of(SearchOptions)
@option("--choices", default=None, metavar="TYPE,...", section="Search",
        help="Precisions to choose from: int8, int4 (4-bit weights, INT8 activations), fp8 or any "
        "scheme; float, fp16 or bf16 for what stays float. Default: --scheme, float.")  # fmt: skip
@dask_option
@placement_options
@options_of(Config, besides=("max_memory",))
@config_option
@plan_option("Start from this plan.yaml.")
@stats_option()
@out_option("The plan.", ".plan.yaml")
@option("--pareto", type=OUT, multiple=True,
        help="What was measured: .csv, .json, .md, .png, .svg or .pdf.")  # fmt: skip
@report_option
@json_option()
def command(**options: Any) -> int:
    """Choose how each node of MODEL is quantized, if at all: the cheapest plan that scores well.

    Every reported plan was measured: the whole model ran with its Q/DQ on held-out samples, or on
    --eval. Exit code 1 if no plan keeps to the budget.
    """
    from onnxq import api
    from onnxq.calib.stats import Stats
    from onnxq.plan import Plan
    from onnxq.report import pareto, text

    model, out = options["model"], options["out"]
    for path in options["pareto"]:
        pareto.check_path(path)
    config, choices = search_config(options)
    plan = Plan.load(options["plan_path"]) if options["plan_path"] else None
    stats = Stats.load(options["stats_path"]) if options["stats_path"] else None
    with Bars() as bars:
        found = api.search_plan(
            model, options["calib"], measuring(options), config, evaluation_of(options),
            choices=choices, plan_from=plan, stats_from=stats, progress=bars,
            executor=options["executor"],
        )  # fmt: skip
        _write(found, out, config, options)
    result = found.result
    if options["as_json"]:
        streams.out(result.to_json().rstrip("\n"))
    else:
        text.show(pareto.render(result))
    if result.plan is None:
        streams.err(f"onnxq: {pareto.summary(result)}")
        return 1
    if not options["as_json"]:
        say_written()
        streams.out(f"\nnow: {quantize_line(out, config.high_precision)}")
    return 0


def _write(found: Searched, out: Path, config: Config, options: dict[str, Any]) -> None:
    """Write the plan, what was measured and the page, all or none."""
    from onnxq.files import together
    from onnxq.report import pareto

    with together():
        for path in options["pareto"]:
            pareto.save(found.result, path)
        if found.result.plan is not None:
            found.result.plan.save(out)
        if options["report"] is not None:
            from onnxq.report.html import verbs, write_page

            page = verbs.foreseen(found.source, found.plan, found.stats, config, command_line())
            write_page(replace(page, search=found.result), options["report"])
