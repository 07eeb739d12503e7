"""What `search` and `recipe` share: options of budgets and metrics, and what they come to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from onnxq.errors import PlanError
from onnxq.escaping import shell_line
from onnxq.pipeline.config import Config
from onnxq_cli.fields import option, together, value_of
from onnxq_cli.labels import labels_of, labels_option
from onnxq_cli.options import config_of

if TYPE_CHECKING:
    from onnxq.api import Source
    from onnxq.plan import Plan
    from onnxq.search import Choices, Samples, SearchOptions

# what quantize has in common with a search, but is told anew
NOT_SAID = {"out", "plan_path", "as_json", "stats_path", "report"}

budget_options = together(
    option("--max-drop", metavar="DROP", section="Search",
           help="Largest drop of the score: 0.5% of the float model's, or 0.5 of its units."),
    option("--min-sqnr", type=float, metavar="DB", section="Search",
           help="Least SQNR of the outputs, in dB."),
)  # fmt: skip
measuring_options = together(
    labels_option,
    option("--eval", "scored", multiple=True, metavar="DATA", section="Scoring",
           help="Measure on these samples. Default: those held out of --calib; with labels or a "
           "module:function all of them. Repeatable."),
)  # fmt: skip


def search_config(options: dict[str, Any]) -> tuple[Config, Choices]:
    """The configuration, with the type of what stays float, and what may be chosen."""
    from onnxq.search import choices_of

    config = config_of(options)
    context = click.get_current_context()
    given = context.get_parameter_source("high_precision")
    high = None if given is ParameterSource.DEFAULT else config.high_precision
    choices = choices_of(options.get("choices"), high, config.placement)
    schemes = [scheme.name for scheme in choices.quantized.values()]
    typed = context.get_parameter_source("scheme") is ParameterSource.COMMANDLINE
    if typed and config.placement.scheme not in schemes:
        raise PlanError(
            f"--scheme {config.placement.scheme} and --choices {options['choices']} contradict "
            "each other; name it among the choices"
        )
    if len(schemes) > 1 and options.get("plan_path"):
        raise PlanError(
            "--plan says how each node is quantized, and --choices has several ways; give one "
            "choice, or leave --plan out and name nodes by --skip, --only or --scheme-for"
        )
    return replace(config, high_precision=choices.high), choices  # type: ignore[arg-type]


def prepared(model: Path, config: Config, choices: Choices, plan: Plan | None) -> Source:
    """The model, in an opset that has the types of every choice, or of the plan in their place."""
    from onnxq import api
    from onnxq.targets.specs import opset_of

    own = config.placement.scheme_for
    wider = [
        replace(config.placement, scheme_for=(*own, f"*={scheme.name}"))
        for scheme in choices.quantized.values()
    ]
    return api.prepare(model, replace(config, placement=max(wider, key=opset_of)), plan)


def quantize_line(plan: Path, high: str) -> str:
    """The command that quantizes by a searched plan: what was said of quantizing is said again."""
    from onnxq_cli.quantize_command import command

    context = click.get_current_context()
    shared = {p.name for p in command.params} - NOT_SAID
    words = ["onnxq", "quantize", str(context.params["model"])]
    for param in context.command.params:
        name = param.name or ""
        default = context.get_parameter_source(name) is ParameterSource.DEFAULT
        if not isinstance(param, click.Option) or name not in shared - {"high_precision"}:
            continue
        value = context.params.get(name)
        if default or value is None or value is False:
            continue
        for one in value if param.multiple else [value]:
            words += [param.opts[0]] if param.is_flag else [param.opts[0], str(one)]
    if high != Config().high_precision:
        words += ["--high-precision", high]
    return shell_line([*words, "--plan", str(plan)])


def measuring(options: dict[str, Any]) -> SearchOptions:
    """What to look for and to score; labels come with the samples."""
    from onnxq.search import SearchOptions, budget_of, solve

    recipe = "top" in options  # which solves nothing, and needs no budget
    if not recipe:
        solve.require()
    bounds = (options["max_drop"], options["min_sqnr"], options.get("max_cost"))
    free = recipe and all(bound is None for bound in bounds)
    asked = value_of(SearchOptions, options, budget=None if free else budget_of(*bounds))
    asked.judging()
    return asked


def samples_of(
    source: Source, config: Config, asked: SearchOptions, options: dict[str, Any]
) -> tuple[Samples, SearchOptions]:
    """Which samples do what, and the options with the labels of those that are measured on.

    Raises DataError for labels that do not fit, PlanError for a metric that cannot be imported.
    """
    from onnxq import api
    from onnxq.calib.holdout import held_out
    from onnxq.search import Samples
    from onnxq.sensitivity import metric_of

    full = api.data(source, options["calib"], config)
    rest, held = held_out(full, config.check_samples)
    check = held
    if options["scored"]:
        full = check = api.data(source, options["scored"], replace(config, samples=None))
    elif asked.measured_by == "top1" or ":" in asked.measured_by:
        check = full
    if not len(check):
        raise PlanError("--check-samples 0 holds out nothing to measure plans on; give --eval DATA")
    if options["labels_path"] is not None:
        asked = replace(asked, labels=labels_of(options["labels_path"], full, check))
    metric_of(asked.judging(), len(check))  # refuses what does not fit before the model is run
    return Samples(rest, held, check), asked
