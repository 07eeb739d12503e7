"""`onnxq data`: calibration data to and from other tools' forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.errors import DataError
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option
from onnxq_cli.options import calib_option, config_of, sample_options
from onnxq_cli.sections import verb


@verb(
    "onnxq data --model fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --samples 4 -o inputs.json",
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
    import numpy as np

    from onnxq import api
    from onnxq.calib.holdout import held_out
    from onnxq.files import replacing
    from onnxq.trt import polygraphy_data
    from onnxq.words import count

    calib, check_samples = options.pop("calib"), options.pop("check_samples")
    if out.suffix not in (".json", ".py", ".npz"):
        raise DataError(f"'{out}' names no form; end it in .json, .py or .npz")
    config = config_of(options)
    if out.suffix == ".py" and (config.samples or check_samples):
        raise DataError(f"'{out}' would load every sample; write .json or .npz to choose samples")
    dataset = api.data(api.open_model(model), calib, config)
    if check_samples is not None:
        dataset = held_out(dataset, check_samples)[1]
    if out.suffix == ".json":
        polygraphy_data.save_json(dataset, out)
    elif out.suffix == ".py":
        polygraphy_data.save_script(model, calib, out)
    else:
        samples = list(dataset)
        stacked = {name: np.concatenate([s[name] for s in samples]) for name in samples[0]}
        with replacing(out) as temporary, open(temporary, "wb") as file:
            np.savez(file, **stacked)  # type: ignore[arg-type]
    streams.out(f"{count(len(dataset), 'sample')} written to {out}")
    return 0
