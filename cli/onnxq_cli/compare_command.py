"""`onnxq compare`: a float model against a quantized one or an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.json_text import to_json
from onnxq.judge.gates import Thresholds
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of, value_of
from onnxq_cli.options import (
    calib_option,
    command_line,
    config_of,
    draw_option,
    json_option,
    layers_options,
    report_option,
    running_options,
    top_option,
)
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb(
    "onnxq compare fixtures/classifier/classifier.onnx model.int8.onnx "
    "--calib fixtures/classifier/calib.npy --min-sqnr 20",
    first="calib min_sqnr min_cosine min_agreement per_tensor top",
)
@click.argument("reference", metavar="[FLOAT", type=IN, required=False)
@click.argument("quantized", metavar="QUANTIZED]", type=IN, required=False)
@calib_option(required=False)
@running_options
@option("--per-tensor", is_flag=True, help="Compare every tensor both graphs have, in order.")
@top_option(20, "Rows of the --per-tensor table, worst first.")
@options_of(Thresholds)
@option("--metric", metavar="MODULE:FUNCTION", section="Scoring",
        help="Score both models by your function of their outputs, too.")  # fmt: skip
@option("--save-golden", type=OUT, help="Keep inputs and outputs of both models, to judge a device "
        "where the models are not at hand.")  # fmt: skip
@option("--golden", type=IN, help="Instead of models and data: judge --outputs by these.")
@option("--outputs", type=IN, help="What a device gave for the inputs in --golden: .npz, or .json "
        "of polygraphy run --save-outputs.")  # fmt: skip
@layers_options
@report_option
@draw_option
@json_option()
def command(reference: Path | None, quantized: Path | None, **options: Any) -> int:
    """Compare QUANTIZED (a model or an engine) with FLOAT over DATA, sample by sample.

    Exit code 1 if a threshold is missed.
    """
    from onnxq import api
    from onnxq.report import comparison, text

    if options["golden"] is not None or options["outputs"] is not None:
        return _device(reference, quantized, options)
    if reference is None or quantized is None or not options["calib"]:
        raise click.UsageError("give FLOAT, QUANTIZED and --calib DATA, or --golden and --outputs")
    if options["draw"] is not None and options["report"] is None:
        raise click.UsageError("--draw makes pictures of a page; give --report FILE.html too")
    thresholds = value_of(Thresholds, options)
    pictures = None
    if options["report"] is not None:
        from onnxq.report.pictures import pictures_for

        pictures = pictures_for(reference, options["draw"])
    with Bars() as bars:
        found = api.compare_models(
            reference, quantized, options["calib"], thresholds, config_of(options),
            per_tensor=options["per_tensor"], golden=options["save_golden"],
            layers=options["layers"], profile=options["profile"], seen=pictures,
            metric=options["metric"], progress=bars,
        )  # fmt: skip
        if pictures is not None:
            from onnxq.report.html import verbs, write_page

            page = verbs.compared(
                reference, quantized, found, command_line(), options["layers"], options["profile"],
                pictures.shown(),
            )  # fmt: skip
            write_page(page, options["report"])
    if options["as_json"]:
        streams.out(to_json(found.as_dict()))
    else:
        text.show(comparison.render(found.as_dict(), options["top"]))
    return 1 if found.failures else 0


def _device(reference: Path | None, quantized: Path | None, options: dict[str, Any]) -> int:
    """Judge what a device gave; exit code 1 where it is further off than INT8 is."""
    from onnxq import api
    from onnxq.report import golden as report
    from onnxq.report import text

    if options["golden"] is None or options["outputs"] is None:
        raise click.UsageError("--golden and --outputs go together; give both")
    if (
        reference is not None
        or options["calib"]
        or any(options[name] is not None for name in ("save_golden", "layers", "profile", "metric"))
    ):
        raise click.UsageError("--golden takes the place of models and data; leave those out")
    found = api.judge_device(options["golden"], options["outputs"])
    if options["as_json"]:
        streams.out(to_json(found.as_dict()))
    else:
        text.show(report.render(found))
    return 1 if found.failures else 0
