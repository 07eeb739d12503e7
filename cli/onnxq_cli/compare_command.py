"""`onnxq compare`: a float model against a quantized one or an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.json_text import to_json
from onnxq_cli import streams
from onnxq_cli.configuring import config_of
from onnxq_cli.options import IN, ort_library_option, provider_option, sample_options
from onnxq_cli.progress import Bars
from onnxq_cli.report_option import command_line, report_option


@click.command(
    name="compare",
    short_help="Compare a quantized model or engine with the float model.",
    epilog="Example: onnxq compare fixtures/classifier/classifier.onnx model.int8.onnx "
    "--calib fixtures/classifier/calib.npy --min-sqnr 20",
)
@click.argument("reference", metavar="FLOAT", type=IN)
@click.argument("quantized", metavar="QUANTIZED", type=IN)
@sample_options()
@provider_option
@ort_library_option
@click.option("--per-tensor", is_flag=True, help="Compare every tensor both graphs have, in order.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", default=20, show_default=True,
              help="Rows of the --per-tensor table, worst first.")  # fmt: skip
@click.option("--tolerance", type=float, help="Absolute and relative, per sample (Polygraphy).")
@click.option("--error-stat", type=click.Choice(["mean", "max", "median", "elemwise"]),
              default="mean", show_default=True, help="What --tolerance looks at.")  # fmt: skip
@click.option("--atol", type=float, help="Largest mean absolute error of an output.")
@click.option("--min-sqnr", type=float, help="Least SQNR of an output, in dB.")
@click.option("--min-cosine", type=float, help="Least cosine similarity of an output.")
@click.option("--min-agreement", type=float, help="Least share of equal top classes, 0 to 1.")
@report_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(reference: Path, quantized: Path, **options: Any) -> int:
    """Compare QUANTIZED (a model or an engine) with FLOAT over DATA, sample by sample.

    Exit code 1 where a threshold is missed.
    """
    from onnxq import api
    from onnxq.report import comparison, text
    from onnxq.trt import compare as trt

    calib, as_json = options.pop("calib"), options["as_json"]
    page: Path | None = options.pop("report")
    config = config_of(options)
    dataset = api.data(api.open_model(reference), calib, config)
    thresholds = trt.Thresholds(
        **{k: options[k] for k in ("tolerance", "error_stat", "atol", "min_sqnr", "min_cosine",
                                   "min_agreement")}
    )  # fmt: skip
    with Bars() as bars:
        found = trt.compare(
            reference, quantized, dataset, thresholds, per_tensor=options["per_tensor"],
            runtime=api.runtime_of(config), progress=bars,
        )  # fmt: skip
    if page is not None:
        from onnxq.report.html import verbs, write_page

        write_page(verbs.compared(reference, quantized, found, command_line()), page)
    if as_json:
        streams.out(to_json(found.as_dict()))
    else:
        text.show(comparison.render(found.as_dict(), options["top"]))
    return 1 if found.failures else 0
