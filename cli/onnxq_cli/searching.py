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
from onnxq.verbs.evaluation import Evaluation
from onnxq_cli.fields import option, together, value_of
from onnxq_cli.options import config_of, labels_option

if TYPE_CHECKING:
    from onnxq.search import Choices, SearchOptions

# what quantize has in common with a search, but is told anew
NOT_SAID = {"out", "plan_path", "as_json", "stats_path", "report"}

evaluation_options = together(
    labels_option,
    option("--eval", "scored", multiple=True, metavar="DATA", section="Scoring",
           help="Measure on these samples. Default: those held out of --calib; with labels or a "
           "module:function all of them. Repeatable."),
)  # fmt: skip
goal_options = together(
    option("--max-drop", metavar="DROP", section="Search",
           help="Largest drop of the score: 0.5% of the float model's, or 0.5 of its units."),
    option("--min-sqnr", type=float, metavar="DB", section="Search",
           help="Least SQNR of the outputs, in dB."),
    evaluation_options,
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

    recipe = "worst" in options  # which solves nothing, and needs no budget
    if not recipe:
        solve.require()
    bounds = (options["max_drop"], options["min_sqnr"], options.get("max_cost"))
    free = recipe and all(bound is None for bound in bounds)
    asked = value_of(SearchOptions, options, budget=None if free else budget_of(*bounds))
    asked.judging()
    return asked


def evaluation_of(options: dict[str, Any]) -> Evaluation:
    """What plans are measured on."""
    return Evaluation(options["scored"], labels=options["labels_path"])
