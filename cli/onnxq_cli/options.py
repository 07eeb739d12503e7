"""Options that several commands share, and the values that they spell."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from onnxq.errors import PlanError
from onnxq.escaping import shell_line
from onnxq.pipeline.config import Config
from onnxq.schemes import file_name
from onnxq.targets.options import PlanOptions
from onnxq.yaml_text import from_yaml
from onnxq_cli.fields import IN, OUT, Command, option, options_of, value_of
from onnxq_cli.paths import Named, OutFile, beside, note_read

RUNS_CODE = ("ort_extension", "ort_library", "dask")
MAY_RUN_CODE = ("calib", "metric", "draw")
WRITES = ("cache", "folder")
SAMPLES = ("preprocess", "samples", "seed", "allow_nonfinite", "feedback")
RUNNING = ("provider", "ort_library", "ort_extension")


def _read_config(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    """Make the mapping in a `--config` file the defaults of this command's options."""
    if value is None:
        return None
    note_read(ctx, value)
    if not value.is_file():
        raise PlanError(f"no configuration at '{value}'; --config reads a YAML mapping of options")
    try:
        document = from_yaml(value.read_text("utf-8"))
    except ValueError as e:
        raise PlanError(f"'{value}' is not YAML: {e}") from e
    if isinstance(document, dict) and isinstance(document.get("config"), dict):
        document = document["config"]  # a manifest, or what --save-config wrote
    if not isinstance(document, dict):
        raise PlanError(f"'{value}' is not a mapping of options, such as 'method: mse'")
    known = {p.name: p for p in ctx.command.params if p.name}
    elsewhere = {f.name for f in (*fields(Config), *fields(PlanOptions))} - known.keys()
    settings = {str(k).replace("-", "_"): v for k, v in document.items()}
    if unknown := sorted(settings.keys() - known.keys() - elsewhere):
        raise PlanError(f"'{value}' sets '{unknown[0]}', which is no option of this command; "
                        f"see 'onnxq {ctx.info_name} --help'")  # fmt: skip
    given = {k: v for k, v in settings.items() if v is not None and k in known}
    for k, v in given.items():
        each = v if isinstance(v, list) and known[k].multiple else [v]
        if any(isinstance(one, list | dict) for one in each):
            raise PlanError(f"'{value}' sets '{k}' to {v}; give it a single value")
    ctx.default_map = {k: _trusted(value, known[k], v) for k, v in given.items()}
    return value


def _trusted(file: Path, option: click.Parameter, value: Any) -> Any:
    """The value as the option's default. One that writes a file or runs code is not taken from a
    file, which somebody else may have written: asked for, it raises PlanError with what to type."""
    each = value if isinstance(value, list) else [value]
    runs = option.name in RUNS_CODE or (
        option.name in MAY_RUN_CODE and any(_names_function(one) for one in each)
    )
    writes = isinstance(option.type, OutFile) or option.name in WRITES
    if not (runs or writes):
        return each if option.multiple else value
    typed = " ".join(f"{option.opts[0]} {shlex.quote(str(one))}" for one in each)
    what = "runs code" if runs else "writes files"

    def refuse() -> Any:
        raise PlanError(
            f"'{file}' sets '{option.name}', which {what}; a file does not decide that: if you "
            f"mean it, write {typed} on the command line"
        )

    return refuse


def _names_function(value: object) -> bool:
    """Whether a word names a function of a module, and not a file or a metric."""
    return isinstance(value, str) and ":" in value and not Path(value).exists()


config_option = option(
    "--config", type=IN, is_eager=True, expose_value=False, callback=_read_config,
    section="Running",
    help="YAML mapping of these options, or the manifest of an earlier run; "
    "the command line wins.",
)  # fmt: skip
labels_option = option("--labels", "labels_path", type=IN, section="Scoring",
                       help="Labels for top1: .npy or .npz, one a sample.")  # fmt: skip
report_option = option("--report", type=OUT, metavar="FILE.html",
                       help="Write the result as one HTML page.")  # fmt: skip
draw_option = option(
    "--draw", metavar="MODULE:FUNCTION",
    help="Draws a sample on the page: called with its inputs and a model's outputs, gives boxes "
    "[n, 4 to 6] or a picture [h, w, 3].",
)  # fmt: skip

placement_options = options_of(PlanOptions)
sample_options = options_of(Config, *SAMPLES)
running_options = options_of(Config, *SAMPLES, *RUNNING)
counting_options = options_of(Config, *SAMPLES, "cache", "workers", "method", *RUNNING)


def calib_option(required: bool = True, *others: str) -> Callable[[Command], Command]:
    """Add `--calib`, by `others` of its names too."""
    return option(
        "--calib", *others, "calib", multiple=True, required=required, metavar="DATA",
        section="Calibration",
        help=".npy, .npz, a folder, images, Polygraphy JSON, test_data_set folder, "
        "module:function or 'random'. Repeatable.",
    )  # fmt: skip


def out_option(
    help: str, suffix: str | None = None, named: Named | None = None
) -> Callable[[Command], Command]:
    """Add `-o`, a file to write. By default it lies beside what is read: by its name and `suffix`,
    which the help says, or as `named` names it."""
    said = f"{help} Default: MODEL with {suffix}." if suffix else help
    return option("-o", "--out", type=OUT, help=said, named=beside(suffix) if suffix else named)


def quantized_name(model: Path, options: Mapping[str, Any]) -> Path:
    """Where a quantized model goes by default."""
    return model.with_name(file_name(model.stem, options["scheme"]))


def json_option(help: str = "Print JSON instead of tables.") -> Callable[[Command], Command]:
    """Add `--json`, which a command gets as `as_json`."""
    return option("--json", "as_json", is_flag=True, help=help)


def plan_option(
    help: str = "Use this plan.yaml instead of planning.",
) -> Callable[[Command], Command]:
    """Add `--plan`, which a command gets as `plan_path`."""
    return option("--plan", "plan_path", type=IN, section="Placement", help=help)


def stats_option(
    help: str = "Use these statistics; do not calibrate.",
) -> Callable[[Command], Command]:
    """Add `--stats`, statistics to read, which a command gets as `stats_path`."""
    return option("--stats", "stats_path", type=IN, section="Calibration", help=help)


def layers_options(command: Command) -> Command:
    """--layers and --profile: what TensorRT says of an engine of the model."""
    layers = option("--layers", type=IN, section="Engine", help="Layers of its engine, by trtexec "
    "--exportLayerInfo=FILE --profilingVerbosity=detailed.")  # fmt: skip
    profile = option("--profile", type=IN, section="Engine", help="Times of those layers, by "
                     "trtexec --exportProfile.")  # fmt: skip
    return layers(profile(command))


def top_option(default: int, help: str) -> Callable[[Command], Command]:
    """Add `--top`, a number of rows."""
    return option("--top", type=click.IntRange(min=1), metavar="N", default=default,
                  show_default=True, help=help)  # fmt: skip


def _connected(ctx: click.Context, _: click.Parameter, address: str | None) -> Executor | None:
    if address is None:
        return None
    from onnxq.cluster.dask import connected

    return ctx.with_resource(connected(address))


dask_option = option(
    "--dask", "executor", metavar="ADDRESS", callback=_connected, section="Running",
    help="Run on the workers of this Dask scheduler, such as tcp://host:8786.",
)  # fmt: skip


def config_of(options: Mapping[str, Any]) -> Config:
    """The Config of a command's options; options that are None keep their default."""
    return value_of(Config, options, placement=value_of(PlanOptions, options))


def command_line() -> tuple[str, ...]:
    """The command that runs, as one line for a shell; none where it was not typed."""
    words = click.get_current_context().find_root().obj
    return (shell_line(["onnxq", *words]),) if words else ()
