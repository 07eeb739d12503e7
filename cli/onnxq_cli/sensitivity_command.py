"""`onnxq sensitivity`: what each node costs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from onnxq.sensitivity.options import Options
from onnxq.verbs.evaluation import Evaluation
from onnxq.verbs.ranking import FEW, Ranked
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of, value_of
from onnxq_cli.options import (
    calib_option,
    command_line,
    config_of,
    config_option,
    counting_options,
    dask_option,
    json_option,
    labels_option,
    placement_options,
    plan_option,
    report_option,
    stats_option,
)
from onnxq_cli.paths import beside
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb

if TYPE_CHECKING:
    from onnxq.pipeline.config import Config


@verb(
    "onnxq sensitivity fixtures/centerpoint/backbone_neck_head.onnx "
    "--calib fixtures/centerpoint/calib.npy --deconv per-tensor --top 5 -o ranking.csv",
    first="calib outs metric top scheme target skip",
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
@option("--write-skip", type=OUT, help="Write the --top nodes as a list for --skip @FILE.")
@option("-o", "--out", "outs", type=OUT, multiple=True, named=beside(".ranking.csv"),
        help="The ranking, as .csv, .json, .md, .png, .svg or .pdf. Repeatable. Default: MODEL "
        "with .ranking.csv.")  # fmt: skip
@report_option
@json_option()
def command(**options: Any) -> int:
    """Rank the nodes of MODEL by the damage that quantizing each does.

    Calibrates on DATA as quantize does, then quantizes one node at a time.
    """
    from onnxq import api
    from onnxq.calib.stats import Stats
    from onnxq.plan import Plan
    from onnxq.report import ranking as report
    from onnxq.report import text

    for out in options["outs"]:
        report.check_path(out)
    evaluation = Evaluation(options["scored"], options["eval_samples"], options["labels_path"])
    plan = Plan.load(options["plan_path"]) if options["plan_path"] else None
    stats = Stats.load(options["stats_path"]) if options["stats_path"] else None
    config = config_of(options)
    with Bars() as bars:
        found = api.rank_nodes(
            options["model"], options["calib"], value_of(Options, options), config, evaluation,
            plan_from=plan, stats_from=stats, progress=bars, executor=options["executor"],
        )  # fmt: skip
        _write(found, config, options)
    if options["as_json"]:
        streams.out(found.ranking.to_json().rstrip("\n"))
    else:
        text.show(report.render(found.ranking, options["top"]))
    return 0


def _write(found: Ranked, config: Config, options: dict[str, Any]) -> None:
    """Write the ranking, the skip list and the page, all or none."""
    from onnxq.files import together, write_text
    from onnxq.report import ranking as report

    with together():
        for out in options["outs"]:
            report.save(found.ranking, out)
        if options["write_skip"] is not None:
            write_text(options["write_skip"], found.ranking.skip_list(options["top"]))
        if options["report"] is not None:
            from onnxq.report.html import verbs, write_page

            page = verbs.foreseen(found.source, found.plan, found.stats, config, command_line())
            write_page(replace(page, ranking=found.ranking), options["report"])
