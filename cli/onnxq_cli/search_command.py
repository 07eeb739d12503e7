"""`onnxq search`: a mixed-precision plan under a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

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
    placement_options,
    plan_option,
    report_option,
    stats_option,
)
from onnxq_cli.paths import check_folder, keep_apart
from onnxq_cli.progress import Bars
from onnxq_cli.searching import (
    budget_options,
    measuring,
    measuring_options,
    prepared,
    quantize_line,
    samples_of,
    search_config,
)
from onnxq_cli.sections import verb


@verb(
    "onnxq search fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --min-sqnr 30 -o plan.yaml",
    first=(
        "calib",
        "out",
        "max_drop",
        "min_sqnr",
        "max_cost",
        "choices",
        "metric",
        "target",
        "skip",
    ),
)
@click.argument("model", type=IN)
@calib_option()
@budget_options
@option("--max-cost", type=float, metavar="SHARE", section="Search",
        help="Largest cost, as a share of the float model's.")  # fmt: skip
@options_of(SearchOptions)
@measuring_options
@option("--choices", default=None, metavar="TYPE,...", section="Search",
        help="Precisions to choose of: int8, int4 (4-bit weights, INT8 activations), fp8 "
        "or any scheme; float, fp16 or bf16 for what stays float. Default: --scheme, "
        "float.")  # fmt: skip
@dask_option
@placement_options
@options_of(Config, besides=("max_memory",))
@config_option
@plan_option("Start from this plan.yaml.")
@stats_option()
@option("-o", "--out", type=OUT, help="The plan. Default: MODEL with .plan.yaml.")
@option("--pareto", type=OUT, multiple=True,
        help="What was measured: .csv, .json, .md, .png, .svg or .pdf.")  # fmt: skip
@report_option
@json_option
def command(**options: Any) -> int:
    """Choose how each node of MODEL is quantized, if at all: the cheapest plan that scores well.

    Every plan reported was measured: its Q/DQ inserted, the whole model run on samples held out
    of the calibration data, or on --eval. Exit code 1 where no plan keeps to the budget.
    """
    from onnxq import api
    from onnxq.calib.stats import Stats
    from onnxq.files import together
    from onnxq.plan import Plan
    from onnxq.report import pareto, text
    from onnxq.search import given, palette_of, search

    model: Path = options["model"]
    executor = options["executor"]
    out = options["out"] or model.with_name(f"{model.stem}.plan.yaml")
    for path in options["pareto"]:
        pareto.check_path(path)
    keep_apart((out, *options["pareto"], options["report"]),
               (model, options["plan_path"], options["stats_path"], options["labels_path"],
                *options["calib"], *options["scored"]))  # fmt: skip
    if model.is_file():  # if it is not, that is what is said
        check_folder(out)
    config, choices = search_config(options)
    asked = measuring(options)
    plan = Plan.load(options["plan_path"]) if options["plan_path"] else None
    source = prepared(model, config, choices, plan)
    palette = given(source.graph, plan) if plan else palette_of(source, config, choices)
    palette.everything.check_model(source.sha256)
    samples, asked = samples_of(source, config, asked, options)
    with Bars() as bars:
        if options["stats_path"]:
            stats = Stats.load(options["stats_path"])
            stats.check_model(source.sha256)
        else:
            everything = palette.everything
            stats = api.calibrate(source, everything, samples.rest, config, bars, executor=executor)
        found = search(source, palette, stats, samples, asked, config, bars, executor)
    with together():
        for path in options["pareto"]:
            pareto.save(found, path)
        if found.plan is not None:
            found.plan.save(out)
        if options["report"] is not None:
            from onnxq.report.html import verbs, write_page

            shown = found.plan or palette.everything
            evidence = verbs.foreseen(source, shown, stats, config, command_line())
            write_page(replace(evidence, search=found), options["report"])
    if options["as_json"]:
        streams.out(found.to_json().rstrip("\n"))
    else:
        text.show(pareto.render(found))
    if found.plan is None:
        streams.err(f"onnxq: {pareto.summary(found)}")
        return 1
    if not options["as_json"]:
        streams.out(f"\nnow: {quantize_line(out, config.high_precision)}")
    return 0
