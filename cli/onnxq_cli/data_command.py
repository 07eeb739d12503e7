"""`onnxq data`: calibration data to and from other tools' forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option
from onnxq_cli.options import SAMPLES, calib_option, config_of, sample_options
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


@verb(
    "onnxq data --model fixtures/classifier/classifier.onnx "
    "--from fixtures/classifier/calib.npy --pick 16 -o picked.npz",
    first="model calib pick out preprocess",
)
@option("--model", type=IN, required=True, help="The model the data is for.")
@calib_option(True, "--from")
@sample_options
@option(
    "--check-samples",
    type=click.IntRange(min=1),
    metavar="N",
    section="Calibration",
    help="Only those that 'onnxq quantize --check-samples N' holds out. Default: all.",
)
@option(
    "--pick",
    type=click.IntRange(min=1),
    metavar="N",
    section="Calibration",
    help="Only N samples that stand for all: MODEL is run over each once.",
)
@option(
    "--signatures",
    type=OUT,
    multiple=True,
    help="Keep what --pick looks at in this file; samples that it knows are not run again. "
    "Repeatable, for shards of the data.",
)
@option(
    "-o",
    "--out",
    type=OUT,
    help=".json for polygraphy --load-inputs, .py for --data-loader-script, .npz. Needed unless "
    "--signatures is all that is asked for.",
)
def command(model: Path, out: Path | None, **options: Any) -> int:
    """Check calibration data against MODEL and write it in another form, or a part of it.

    Reads what --calib reads, Polygraphy's --save-inputs JSON among it.
    """
    from onnxq import api
    from onnxq.words import count

    config = config_of({k: options[k] for k in SAMPLES})
    files, pick = options["signatures"], options["pick"]
    if out is None and not (files and pick is None):
        raise click.UsageError("Missing option '-o' / '--out'.")
    if out is not None and files and pick is None:
        raise click.UsageError("--signatures is for --pick: give --pick N, or no -o.")
    with Bars() as bars:
        if out is None:
            known = api.sign_data(model, options["calib"], config, files, bars)
            written = f"signatures of {count(len(known), 'sample')} written to {files[0]}"
        else:
            done = api.write_data(
                model, options["calib"], out, config, options["check_samples"], pick=pick,
                signatures=files, progress=bars,
            )  # fmt: skip
            written = f"{count(done, 'sample')} written to {out}"
    streams.out(written)
    return 0
