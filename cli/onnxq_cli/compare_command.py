"""`onnxq compare`: a float model against a quantized one or an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.json_text import to_json
from onnxq.judge.gates import Thresholds
from onnxq_cli import streams
from onnxq_cli.fields import IN, option, options_of, value_of
from onnxq_cli.options import (
    calib_option,
    command_line,
    config_of,
    json_option,
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
@click.argument("reference", metavar="FLOAT", type=IN)
@click.argument("quantized", metavar="QUANTIZED", type=IN)
@calib_option()
@running_options
@option("--per-tensor", is_flag=True, help="Compare every tensor both graphs have, in order.")
@top_option(20, "Rows of the --per-tensor table, worst first.")
@options_of(Thresholds)
@report_option
@json_option()
def command(reference: Path, quantized: Path, **options: Any) -> int:
    """Compare QUANTIZED (a model or an engine) with FLOAT over DATA, sample by sample.

    Exit code 1 where a threshold is missed.
    """
    from onnxq import api
    from onnxq.report import comparison, text

    thresholds = value_of(Thresholds, options)
    with Bars() as bars:
        found = api.compare_models(
            reference, quantized, options["calib"], thresholds, config_of(options),
            per_tensor=options["per_tensor"], progress=bars,
        )  # fmt: skip
    if options["report"] is not None:
        from onnxq.report.html import verbs, write_page

        page = verbs.compared(reference, quantized, found, command_line())
        write_page(page, options["report"])
    if options["as_json"]:
        streams.out(to_json(found.as_dict()))
    else:
        text.show(comparison.render(found.as_dict(), options["top"]))
    return 1 if found.failures else 0
