"""`onnxq tune`: a goal in place of options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq.finetune.options import FinetuneOptions
from onnxq.ladder.goal import Goal
from onnxq.pipeline.config import Config
from onnxq.search.options import SearchOptions
from onnxq_cli import streams
from onnxq_cli.fields import IN, option, options_of, value_of
from onnxq_cli.options import (
    calib_option,
    config_of,
    config_option,
    json_option,
    placement_options,
    plan_option,
)
from onnxq_cli.paths import beside
from onnxq_cli.progress import Bars
from onnxq_cli.searching import evaluation_of, evaluation_options
from onnxq_cli.sections import verb
from onnxq_cli.verbosity import is_quiet

if TYPE_CHECKING:
    from onnxq.ladder import Tuned


@verb(
    "onnxq tune fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --min-sqnr 43 -o classifier-tuned",
    first="calib folder min_sqnr max_drop agreement metric labels_path scored target scheme",
)
@click.argument("model", type=IN)
@calib_option()
@options_of(Goal)
@evaluation_options
@options_of(SearchOptions, "cost", "layers", "rates")
@options_of(FinetuneOptions, "steps")
@placement_options
@options_of(Config)
@config_option
@plan_option("Start from this plan.yaml.")
@option("-o", "--out", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
        named=beside(".tuned"),
        help="Folder to write to, and to go on in. Default: MODEL with .tuned.")  # fmt: skip
@json_option()
def command(**options: Any) -> int:
    """Quantize MODEL in the cheapest way that meets a goal.

    Climbs a ladder: the default, the method, more recoveries, the worst nodes in float, 16-bit
    activations and, if torch is installed, finetune. Stops at the first rung that meets --min-sqnr,
    --max-drop or --agreement on samples that took part in nothing else. Writes the model, its
    manifest, plan, configuration and tune.json to one folder; if it is killed, run it again to go
    on. Exit code 1 if no rung meets the goal; the best is written all the same.
    """
    from onnxq import api
    from onnxq.plan import Plan
    from onnxq.report import text, tuning

    model, folder = options["model"], options["folder"]
    goal = value_of(Goal, options)
    start = Plan.load(options["plan_path"]) if options["plan_path"] else None
    with Bars() as bars:
        found = api.tune(
            model, options["calib"], goal, config_of(options), evaluation=evaluation_of(options),
            folder=folder, cost=options["cost"], layers=options["layers"], rates=options["rates"],
            plan_from=start,
            learning=value_of(FinetuneOptions, options), told=_told, progress=bars,
        )  # fmt: skip
    if options["as_json"]:
        streams.out(found.to_json().rstrip("\n"))
    else:
        text.show(tuning.render(found, folder))
    if not found.holds:
        streams.err(f"onnxq: {tuning.summary(found)}")
    return 0 if found.holds else 1


def _told(tuned: Tuned) -> None:
    """A line for every rung as it is done, for who waits."""
    from onnxq.report import tuning

    if not is_quiet():
        streams.err(tuning.said(tuned, tuned.rungs[-1]))
