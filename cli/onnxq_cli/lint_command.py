"""`onnxq lint`: what TensorRT will refuse, run slowly or compute differently, with the fix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import click

from onnxq.json_text import to_json
from onnxq.pipeline.config import Config
from onnxq.trt.backend import MODULES
from onnxq.trt.rule import Severity
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of
from onnxq_cli.options import json_option, out_option
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


def _mended_name(model: Path, options: Mapping[str, Any]) -> Path | None:
    return model.with_name(f"{model.stem}.mended.onnx") if options["mend"] else None


@verb(
    "onnxq lint quantized.onnx --fix -o mended.onnx --sarif lint.sarif",
    first="backend severity mend out",
)
@click.argument("model", type=IN)
@option(
    "--backend",
    type=click.Choice(list(MODULES)),
    default="tensorrt",
    show_default=True,
    help="Judge by TensorRT's documentation, or by what TensorRT-RTX was seen to do.",
)
@option(
    "--severity",
    type=click.Choice(get_args(Severity)),
    default="info",
    show_default=True,
    help="Show findings of this severity and worse.",
)
@option("--fix", "mend", is_flag=True, help="Apply the safe fixes, write OUT and lint that.")
@out_option("Where --fix writes. Default: MODEL with .mended.onnx.", named=_mended_name)
@option(
    "--calib",
    multiple=True,
    metavar="DATA",
    section="Calibration",
    help="Samples, as for 'onnxq quantize': their shapes tell apart axes that share a name.",
)
@options_of(Config, "preprocess")
@json_option("Print JSON instead of text.")
@option("--sarif", type=OUT, help="Also write SARIF 2.1.0, which code hosts show.")
def command(
    model: Path,
    backend: str,
    severity: str,
    mend: bool,
    out: Path | None,
    calib: tuple[str, ...],
    preprocess: str | None,
    as_json: bool,
    sarif: Path | None,
) -> int:
    """Say what TensorRT will refuse, run slowly or compute differently in MODEL, and the fix.

    Reads only the graph; TensorRT is not needed. Exit code 1 if something will be refused.
    """
    from onnxq import api
    from onnxq.files import together, write_text
    from onnxq.report import findings as report
    from onnxq.report.text import show
    from onnxq.trt.lint import RULES, at_least, is_refused

    if out is not None and not mend:
        raise click.UsageError("-o is where --fix writes: give --fix too")
    run, config = api.mend if mend else api.lint, Config(preprocess=preprocess)
    with Bars(), together():
        found = run(model, backend, calib, config)
        shown = at_least(found.findings, severity)
        if out is not None:
            found.save(out)
        if sarif is not None:
            write_text(sarif, to_json(report.findings_sarif(shown, RULES, out or model)))
    if as_json:
        streams.out(to_json(report.findings_json(shown, found.fixed)))
    else:
        show(report.findings_text(shown, found.fixed))
    return 1 if is_refused(found.findings) else 0
