"""Options that several commands share, named like the configuration's fields."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from onnxq.errors import PlanError
from onnxq.pipeline.config import Config
from onnxq.schemes import BLOCK_SIZES, SCHEMES
from onnxq.targets.options import PlanOptions
from onnxq.yaml_text import from_yaml
from onnxq_cli.completion import complete_nodes
from onnxq_cli.paths import OutFile, note_read

Command = TypeVar("Command", bound=Callable[..., Any])

OUT = OutFile()
RUNS_CODE = ("ort_extension", "ort_library", "dask")
MAY_RUN_CODE = ("calib", "metric")
WRITES = ("cache", "folder")
IN = click.Path(path_type=Path)


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


config_option = click.option(
    "--config", type=IN, is_eager=True, expose_value=False, callback=_read_config,
    help="YAML mapping of these options, or the manifest of an earlier run; "
    "the command line wins.",
)  # fmt: skip

_PLACEMENT = (
    click.option("--skip", multiple=True, metavar="PATTERN", shell_complete=complete_nodes,
                 help="Leave these nodes float: a substring or glob of the name, op:TYPE, "
                 "tensor:NAME or @FILE. Repeatable."),
    click.option("--only", multiple=True, metavar="PATTERN", shell_complete=complete_nodes,
                 help="Quantize these nodes alone."),
    click.option("--skip-op", multiple=True, metavar="TYPE", help="Leave an op type float."),
    click.option("--skip-between", multiple=True, metavar="FROM:TO",
                 help="Leave every node on a path between two patterns float."),
    click.option("--keep-first", type=click.IntRange(min=0), default=0, metavar="N",
                 show_default=True, help="Leave the first N weighted ops after the inputs float."),
    click.option("--keep-last", type=click.IntRange(min=0), default=0, metavar="N",
                 show_default=True, help="Leave the last N weighted ops before the outputs float."),
    click.option("--deconv", type=click.Choice(["float", "per-tensor", "per-channel"]),
                 default="float", show_default=True, help="ConvTranspose: TensorRT runs it in "
                 "float whatever is asked; build and compare if you change it."),
    click.option("--concat", type=click.Choice(["auto", "share", "requant", "float"]),
                 default="auto", show_default=True, help="Q/DQ on the inputs of a Concat: one "
                 "shared scale, a scale each, or none. auto: a scale each for onnxruntime."),
    click.option("--residual", type=click.Choice(["skip", "float"]), default="skip",
                 show_default=True, help="Q/DQ on the skip branch of a residual Add, or none."),
    click.option("--target", type=click.Choice(["tensorrt", "onnxruntime"]), default="tensorrt",
                 show_default=True, help="What will run the model: where Q/DQ goes."),
    click.option("--scheme", type=click.Choice(list(SCHEMES)), default="w8a8", show_default=True,
                 help="Types of weights and activations."),
    click.option("--scheme-for", multiple=True, metavar="PATTERN=SCHEME",
                 help="Another scheme for these nodes. Repeatable; the last that matches wins."),
    click.option("--weights", type=click.Choice(["auto", "per-channel", "per-tensor", "per-block"]),
                 default="auto", show_default=True, help="Granularity of weight scales. auto: per "
                 "channel; INT4 in MatMul and Gemm per block."),
    click.option("--block-size", type=click.Choice([str(n) for n in BLOCK_SIZES]), default=None,
                 callback=lambda _c, _p, n: n and int(n),
                 help="Weights of MatMul and Gemm that share a scale. Default for INT4: 64."),
    click.option("--min-channels", type=click.IntRange(min=1), metavar="N", default=16,
                 show_default=True, help="Narrower Conv, Gemm and MatMul stay float."),
    click.option("--attribute-op", multiple=True, metavar="TYPE",
                 help="Write the ranges of this op type, such as SparseConvolution, into its "
                 "attributes instead of Q/DQ. Repeatable."),
)  # fmt: skip

_SAMPLES = (
    click.option("--samples", type=click.IntRange(min=1), metavar="N", default=None,
                 help="Use this many samples, evenly spread, or drawn with --seed. Default: all."),
    click.option("--seed", type=int, default=None,
                 help="Draw --samples, and random data, with this seed. Default: do not draw."),
    click.option("--allow-nonfinite", is_flag=True, help="Drop samples that hold NaN or Inf."),
)  # fmt: skip

_COUNTING = (
    click.option("--cache", type=click.Path(file_okay=False), default=None, metavar="DIR",
                 help="Keep statistics in this folder, and take from it what the model and the "
                 "data have counted before."),
    click.option("--workers", type=click.IntRange(min=1), metavar="N", default=None,
                 help="Samples in flight; the ranges do not depend on it. Default: all cores."),
)  # fmt: skip

method_option = click.option(
    "--method", default="mse", show_default=True, metavar="METHOD",
    help="How ranges are read: max, percentile[:P], mse, entropy or auto.",
)  # fmt: skip

_CUSTOM_OPS = (
    click.option("--ort-library", type=IN, default=None, help="Shared library with custom ops."),
    click.option("--ort-extension", default=None, metavar="MODULE",
                 help="Python module, or .py file, that declares custom ops with "
                 "onnxruntime-extensions."),
)  # fmt: skip


def ort_library_option(command: Command) -> Command:
    """Add the options that say what computes custom ops."""
    return _all(command, _CUSTOM_OPS)


def placement_options(command: Command) -> Command:
    """Add the options that become PlanOptions."""
    return _all(command, _PLACEMENT)


def calib_option(required: bool) -> Callable[[Command], Command]:
    """Add `--calib`."""
    return click.option(
        "--calib", multiple=True, required=required, metavar="DATA",
        help=".npy, .npz, folder, Polygraphy JSON, test_data_set folder, module:function or "
        "'random'. Repeatable.",
    )  # fmt: skip


def sample_options(required: bool = True) -> Callable[[Command], Command]:
    """Add the options that say which data to run a model on."""
    calib = calib_option(required)
    return lambda command: calib(_all(command, _SAMPLES))


def data_options(required: bool = True) -> Callable[[Command], Command]:
    """Add the options that say what to calibrate on, and how to count."""
    calib = calib_option(required)
    return lambda command: calib(_all(command, (*_SAMPLES, *_COUNTING)))


def max_memory_option(bounds: str) -> Callable[[Command], Command]:
    """Add `--max-memory`, the bound on what `bounds` says."""
    return click.option(
        "--max-memory", type=click.IntRange(min=1), default=1024, show_default=True, metavar="MB",
        help=f"Bound on {bounds}.",
    )  # fmt: skip


def _all(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


provider_option = click.option(
    "--provider", type=click.Choice(["cpu", "cuda", "cuda,cpu"]), default="cpu",
    show_default=True, help="Where ONNX Runtime runs; cuda,cpu is the CPU where CUDA fails.",
)  # fmt: skip

_RANGES = (
    click.option("--weight-method", type=click.Choice(["max", "mse"]), default="max",
                 show_default=True, help="How weight ranges are read."),
    click.option("--weights-as", type=click.Choice(["auto", "int", "float"]), default="auto",
                 show_default=True, help="INT8 weights with a DequantizeLinear, or float weights "
                 "with a Q/DQ pair."),
    click.option("--high-precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32",
                 show_default=True, help="Type of what is not quantized."),
    click.option("--io", type=click.Choice(["keep", "half"]), default="keep", show_default=True,
                 help="Types of the model's inputs and outputs in a half graph."),
    click.option("--recover", default="auto", show_default=True, metavar="LIST",
                 help="none, all, or some of channels, equalize, smooth, scales, round, bias with "
                 "commas between; each is kept where it helps samples that it is not fitted to. "
                 "auto: channels, bias, and round for weights of 4 bits."),
    click.option("--check-samples", type=click.IntRange(min=0), metavar="N", default=8,
                 show_default=True,
                 help="Samples held out of calibration to compare FP32 with INT8."),
    click.option("--requantize", is_flag=True, help="Take the Q/DQ out of MODEL first."),
    click.option("--external-data", is_flag=True, help="Weights in a file beside the model."),
)  # fmt: skip


def range_options(command: Command) -> Command:
    """Add the options of ranges, weights and types."""
    return _all(command, _RANGES)
