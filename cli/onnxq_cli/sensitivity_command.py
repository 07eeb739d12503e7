"""`onnxq sensitivity`: what each node costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq.sensitivity.options import Options
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of, value_of
from onnxq_cli.labels import labels_of, labels_option
from onnxq_cli.options import (
    calib_option,
    command_line,
    config_of,
    config_option,
    counting_options,
    dask_option,
    json_option,
    placement_options,
    plan_option,
    report_option,
    stats_option,
)
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb

if TYPE_CHECKING:
    from onnxq.api import Source
    from onnxq.calib.data import Dataset
    from onnxq.pipeline.config import Config

FEW = 32  # samples that rank as many do, where no labels are scored


@verb(
    "onnxq sensitivity fixtures/centerpoint/backbone_neck_head.onnx "
    "--calib fixtures/centerpoint/calib.npy --deconv per-tensor --top 5 -o ranking.csv",
    first=("calib", "outs", "metric", "top", "scheme", "target", "skip"),
)
@click.argument("model", type=IN)
@calib_option()
@placement_options
@counting_options
@config_option
@options_of(Options)
@labels_option
@option("--eval", "scored", multiple=True, metavar="DATA", section="Scoring",
        help="Score on these samples instead of those of --calib. Repeatable.")  # fmt: skip
@option("--eval-samples", type=click.IntRange(min=1), metavar="N", section="Scoring",
        help=f"Score on this many samples. Default: {FEW}, with labels or a function "
        "all.")  # fmt: skip
@dask_option
@plan_option()
@stats_option()
@option("--write-skip", type=OUT, help="List of the --top nodes for --skip @FILE.")
@option("-o", "--out", "outs", type=OUT, multiple=True,
        help="Ranking as .csv, .json, .md, .png, .svg or .pdf. Repeatable.")  # fmt: skip
@report_option
@json_option
def command(**options: Any) -> int:
    """Rank the nodes of MODEL by the damage that quantizing each does.

    Calibrates on DATA as quantize does, then quantizes one node at a time.
    """
    from onnxq import api
    from onnxq.calib.stats import Stats
    from onnxq.files import together, write_text
    from onnxq.plan import Plan
    from onnxq.report import ranking as report
    from onnxq.report import text

    outs, skip, executor = options["outs"], options["write_skip"], options["executor"]
    for out in outs:
        report.check_path(out)
    config = config_of(options)
    source = api.prepare(options["model"], config)
    plan = Plan.load(options["plan_path"]) if options["plan_path"] else api.plan(source, config)
    plan.check_model(source.sha256)
    dataset, judged, asked = _data(source, config, options)
    with Bars() as bars:
        if options["stats_path"]:
            stats = Stats.load(options["stats_path"])
            stats.check_model(source.sha256)
        else:
            stats = api.calibrate(source, plan, dataset, config, bars, executor=executor)
        ranges = api.read(source, plan, stats, config.method)
        try:
            ranking = api.sensitivity(source, plan, ranges, judged, asked, config, bars, executor)
        except KeyboardInterrupt:
            return _interrupted(options["resume"])
    with together():
        for out in outs:
            report.save(ranking, out)
        if skip is not None:
            write_text(skip, ranking.skip_list(options["top"]))
        if options["report"] is not None:
            from onnxq.report.html import verbs, write_page

            evidence = verbs.foreseen(source, plan, stats, config, command_line())
            write_page(replace(evidence, ranking=ranking), options["report"])
    if options["as_json"]:
        streams.out(ranking.to_json().rstrip("\n"))
    else:
        text.show(report.render(ranking, options["top"]))
    return 0


def _interrupted(resume: Path | None) -> int:
    kept = f"the same command goes on from '{resume}'" if resume else "nothing was written"
    streams.err(f"onnxq: interrupted; {kept}")
    return 130


def _data(
    source: Source, config: Config, options: dict[str, Any]
) -> tuple[Dataset, Dataset, Options]:
    """(samples to calibrate on, samples to score, the analysis' options with their labels)."""
    from onnxq import api
    from onnxq.sensitivity import metric_of

    labelled = options["labels_path"] is not None
    everything = replace(config, samples=None)
    full = api.data(source, options["calib"], everything if labelled else config)
    chosen = config.samples if labelled else None
    dataset = judged = full.subset(chosen, config.seed) if chosen else full
    if options["scored"]:
        full = judged = api.data(source, options["scored"], everything)
    few = options["eval_samples"] or (len(judged) if _wants_all(options) else FEW)
    if options["eval_samples"] or few < len(judged):
        judged = judged.subset(few, config.seed)
    labels = labels_of(options["labels_path"], full, judged) if labelled else None
    asked = value_of(Options, options, labels=labels)
    metric_of(asked, len(judged))  # refuses what does not fit before the model is run
    return dataset, judged, asked


def _wants_all(options: dict[str, Any]) -> bool:
    return options["metric"] == "top1" or ":" in options["metric"]
