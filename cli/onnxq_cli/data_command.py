"""`onnxq data`: calibration data to and from other tools' forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option
from onnxq_cli.options import SAMPLES, calib_option, config_of, sample_options
from onnxq_cli.sections import verb


@verb(
    "onnxq data --model fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --samples 4 -o inputs.json",
    first="model calib out preprocess",
)
@option("--model", type=IN, required=True, help="The model the data is for.")
@calib_option()
@sample_options
@option(
    "--check-samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only those that 'onnxq quantize --check-samples N' holds out. Default: all.",
)
@option(
    "-o",
    "--out",
    type=OUT,
    required=True,
    help=".json for polygraphy --load-inputs, .py for --data-loader-script, .npz.",
)
def command(model: Path, out: Path, **options: Any) -> int:
    """Check calibration data against MODEL and write it in another form.

    Reads what --calib reads, Polygraphy's --save-inputs JSON among it.
    """
    from onnxq import api
    from onnxq.words import count

    config = config_of({k: options[k] for k in SAMPLES})
    written = api.write_data(model, options["calib"], out, config, options["check_samples"])
    streams.out(f"{count(written, 'sample')} written to {out}")
    return 0
