"""`onnxq sensitivity`: what each node costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq_cli import streams
from onnxq_cli.cluster_option import dask_option
from onnxq_cli.configuring import config_of
from onnxq_cli.labels import labels_of
from onnxq_cli.options import (
    IN,
    OUT,
    config_option,
    data_options,
    max_memory_option,
    method_option,
    ort_library_option,
    placement_options,
    provider_option,
)
from onnxq_cli.progress import Bars
from onnxq_cli.report_option import command_line, report_option

if TYPE_CHECKING:
    from onnxq.api import Source
    from onnxq.calib.data import Dataset
    from onnxq.pipeline.config import Config
    from onnxq.sensitivity import Options

FEW = 32  # samples that rank as many do, where no labels are scored


def numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """A tuple from '0,1,2'."""
    try:
        return tuple(int(word) for word in value.split(",")) if value else ()
    except ValueError as e:
        raise click.BadParameter(f"'{value}' is not a list of numbers such as 0,1,2,5") from e


@click.command(
    name="sensitivity",
    short_help="Rank the nodes by the damage that quantizing each does.",
    epilog="Example: onnxq sensitivity fixtures/centerpoint/backbone_neck_head.onnx "
    "--calib fixtures/centerpoint/calib.npy --deconv per-tensor --top 5 -o ranking.csv",
)
@click.argument("model", type=IN)
@data_options()
@placement_options
@method_option
@provider_option
@ort_library_option
@config_option
@click.option(
    "--mode",
    type=click.Choice(["one-on", "one-off"]),
    default="one-on",
    show_default=True,
    help="Quantize each alone, or leave each alone float.",
)
@click.option(
    "--granularity",
    type=click.Choice(["node", "group"]),
    default="node",
    show_default=True,
    help="Toggle nodes, or blocks of them by their names.",
)
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="PATTERN",
    help="With --granularity group: toggle these nodes together. Repeatable.",
)
@click.option("--split", is_flag=True, help="Score activations and weights apart too.")
@click.option(
    "--metric",
    default="sqnr",
    show_default=True,
    metavar="METRIC",
    help="sqnr, mse, cosine, kl, top1, or module:function of the streamed outputs.",
)
@click.option(
    "--labels", "labels_path", type=IN, help="Labels for top1: .npy or .npz, one a sample."
)
@click.option(
    "--direction",
    type=click.Choice(["higher", "lower"]),
    default="higher",
    show_default=True,
    help="Which scores of a module:function are better.",
)
@click.option(
    "--at",
    type=click.Choice(["outputs", "node"]),
    default="outputs",
    show_default=True,
    help="Score the model's outputs, or what the node writes.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="NAME",
    help="Score this output. Repeatable; default: all, ranked by the worst.",
)
@click.option(
    "--eval",
    "scored",
    multiple=True,
    metavar="DATA",
    help="Score on these samples instead of those of --calib. Repeatable.",
)
@click.option(
    "--eval-samples",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Score on this many samples. Default: {FEW}, with labels or a function all.",
)
@click.option(
    "--curve",
    callback=numbers,
    metavar="K,...",
    help="Score with the worst K left float, for each K.",
)
@click.option(
    "--screen",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.25,
    show_default=True,
    metavar="SHARE",
    help="Score all on this share of the samples, and the worst on all samples; 1: all on all.",
)
@max_memory_option("the tensors kept to save work")
@click.option(
    "--resume", type=OUT, metavar="FILE.json", help="Keep what is measured here, and go on from it."
)
@dask_option
@click.option("--whole", is_flag=True, help="Slow, to check with: a whole new run for each node.")
@click.option("--plan", "plan_path", type=IN, help="Use this plan.yaml instead of planning.")
@click.option("--stats", "stats_path", type=IN, help="Use these statistics: no calibration.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="N",
    default=10,
    show_default=True,
    help="How many rows to print, and to write to --write-skip.",
)
@click.option("--write-skip", type=OUT, help="List of the --top nodes for --skip @FILE.")
@click.option(
    "-o",
    "--out",
    "outs",
    type=OUT,
    multiple=True,
    help="Ranking as .csv, .json, .md, .png, .svg or .pdf. Repeatable.",
)
@report_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
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
    from onnxq.sensitivity import Options, metric_of

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
    asked = Options(
        mode=options["mode"], granularity=options["granularity"], groups=options["groups"],
        split=options["split"], metric=options["metric"], labels=labels,
        direction=options["direction"], at=options["at"], outputs=options["outputs"],
        curve=options["curve"], screen=options["screen"], top=options["top"],
        max_memory=options["max_memory"] << 20, resume=options["resume"], whole=options["whole"],
    )  # fmt: skip
    metric_of(asked, len(judged))  # refuses what does not fit before the model is run
    return dataset, judged, asked


def _wants_all(options: dict[str, Any]) -> bool:
    return options["metric"] == "top1" or ":" in options["metric"]
