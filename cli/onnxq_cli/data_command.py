"""`onnxq data`: calibration data to and from other tools' forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxq.errors import DataError
from onnxq_cli.configuring import config_of
from onnxq_cli.options import IN, OUT, data_options


@click.command(
    name="data",
    epilog="Example: onnxq data --model fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --samples 4 -o inputs.json",
)
@click.option("--model", type=IN, required=True, help="The model the data is for.")
@data_options()
@click.option(
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
    from onnxq.graph import replacing
    from onnxq.trt import polygraphy_data

    calib = options.pop("calib")
    config = config_of(options)
    dataset = api.data(api.prepare(model, config), calib, config)
    if out.suffix == ".json":
        polygraphy_data.save_json(dataset, out)
    elif out.suffix == ".py":
        polygraphy_data.save_script(model, calib, out)
    elif out.suffix == ".npz":
        samples = list(dataset)
        stacked = {name: np.concatenate([s[name] for s in samples]) for name in samples[0]}
        with replacing(out) as temporary, open(temporary, "wb") as file:
            np.savez(file, **stacked)  # type: ignore[arg-type]
    else:
        raise DataError(f"'{out}' names no form; end it in .json, .py or .npz")
    click.echo(f"{len(dataset)} samples -> {out}")
    return 0
