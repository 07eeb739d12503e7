"""`onnxq engine`: what TensorRT's own layer info and profile say, node by node."""

from __future__ import annotations

from pathlib import Path

import click

from onnxq.errors import OnnxqError
from onnxq.files import write_text
from onnxq.json_text import to_json
from onnxq.search.options import SearchOptions
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of
from onnxq_cli.options import json_option, top_option
from onnxq_cli.sections import verb


@verb("onnxq engine layers.json --profile profile.json",
      first="profiles model top write_skip float_model write_plan")  # fmt: skip
@click.argument("layers", nargs=-1, required=True, type=IN, metavar="LAYERS [LAYERS]")
@option("--profile", "profiles", type=IN, multiple=True, help="Times of the layers, by trtexec "
        "--exportProfile. With two LAYERS: twice, in their order.")  # fmt: skip
@option(
    "--model",
    type=IN,
    help="The ONNX model that it was built from; with two LAYERS, that of the second.",
)
@top_option(10, "Rows of each table.")
@option("--write-skip", type=OUT, help="With two LAYERS: list what is slower in fewer bits, for "
        "quantize --skip @FILE.")  # fmt: skip
@option("--float", "float_model", type=IN, section="Engine", help="The model without Q/DQ, to say "
        "whether INT8 pays, and where.")  # fmt: skip
@option("--plan", "plan_path", type=IN, section="Engine",
        help="The plan that it was quantized by. Default: that of onnxq plan.")  # fmt: skip
@option("--write-plan", type=OUT, section="Engine", help="With --float: write a plan for quantize "
        "--plan that leaves float what does not pay.")  # fmt: skip
@options_of(SearchOptions, "rates")
@json_option()
def command(
    layers: tuple[Path, ...],
    profiles: tuple[Path, ...],
    model: Path | None,
    top: int,
    write_skip: Path | None,
    float_model: Path | None,
    plan_path: Path | None,
    write_plan: Path | None,
    rates: str | None,
    as_json: bool,
) -> int:
    """Show what an engine runs each node in, how long that takes, and what to change.

    LAYERS is the file of trtexec --exportLayerInfo=FILE --profilingVerbosity=detailed, or of
    TensorRT's engine inspector. Two of them, each with its --profile, are compared: what got slower
    in the second, and why. --float also says whether INT8 pays. Exit code 1 if it does not and
    --write-plan asks for a plan.
    """
    from onnxq import api
    from onnxq.plan import Plan
    from onnxq.report import layers as report
    from onnxq.report import text

    _check(layers, profiles, write_skip)
    if float_model is None and (write_plan or plan_path or rates):
        raise OnnxqError("give the model without Q/DQ by --float FLOAT.onnx: --write-plan, --plan "
                         "and --rates are about its nodes")  # fmt: skip
    pairs = list(zip(layers, profiles or (None,) * len(layers), strict=True))
    readings = [
        api.read_layers(path, times, model if i == len(pairs) - 1 else None)
        for i, (path, times) in enumerate(pairs)
    ]
    found = api.compare_layers(*readings) if len(readings) > 1 else None
    pays = None
    if float_model is not None:
        plan = Plan.load(plan_path) if plan_path else None
        pays = api.does_it_pay(float_model, layers, profiles, plan, rates)
    if write_skip is not None and found is not None:
        write_text(write_skip, found.skip_list())
    if write_plan is not None and pays is not None and pays.plan is not None:
        pays.plan.save(write_plan)
    if as_json:
        document = readings[0].as_dict() if found is None else found.as_dict()
        if pays is not None:
            document["pays"] = pays.as_dict()
        streams.out(to_json(document))
    else:
        if pays is not None:
            text.show(report.render_paying(pays, top))
        text.show(
            report.render(readings[0], top)
            if found is None
            else report.render_comparison(found, top)
        )
    return int(write_plan is not None and pays is not None and pays.plan is None)


def _check(layers: tuple[Path, ...], profiles: tuple[Path, ...], skip: Path | None) -> None:
    if len(layers) > 2:
        raise OnnxqError(f"{len(layers)} files; give the layers of one engine, or of two")
    if len(profiles) not in ((0, 1) if len(layers) == 1 else (2,)):
        raise OnnxqError(f"{len(layers)} x LAYERS and {len(profiles)} x --profile; give a "
                         "--profile for each, in the same order")  # fmt: skip
    if skip is not None and len(layers) == 1:
        raise OnnxqError(
            "--write-skip lists what is slower than in another engine; give two LAYERS"
        )
