"""`onnxq data`: calibration data to and from other tools' forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from onnxq.pipeline.config import Config
from onnxq_cli import streams
from onnxq_cli.fields import IN, OUT, option, options_of
from onnxq_cli.options import SAMPLES, calib_option, config_of, sample_options
from onnxq_cli.progress import Bars
from onnxq_cli.sections import verb


def _data_name(model: Path, options: Mapping[str, Any]) -> Path | None:
    """Where data go by default; None where a cache or signatures are all that is asked for."""
    signs = options["signatures"] and options["pick"] is None and options["through"] is None
    if options["write_cache"] is not None or signs:
        return None
    return model.with_name(f"{model.stem}.calib.npz")


@verb(
    "onnxq data --model fixtures/classifier/classifier.onnx "
    "--from fixtures/classifier/calib.npy --pick 16 -o picked.npz",
    first="model calib pick out preprocess",
)
@option("--model", type=IN, help="The model the data is for; with --through it names the inputs.")
@calib_option(True, "--from")
@sample_options
@option(
    "--through",
    type=IN,
    metavar="FIRST",
    help="Run this model over the data and write its outputs as data for MODEL, which follows it.",
)
@option(
    "--map",
    "maps",
    multiple=True,
    metavar="OUT=IN",
    help="An output of FIRST is this input of MODEL. Default: by name, or the only one that fits. "
    "Repeatable.",
)
@option(
    "--check-samples",
    type=click.IntRange(min=1),
    metavar="N",
    section="Calibration",
    help="Only the samples that 'onnxq quantize --check-samples N' holds out. Default: all.",
)
@option(
    "--pick",
    type=click.IntRange(min=1),
    metavar="N",
    section="Calibration",
    help="Only N samples that stand for all; MODEL runs once over each sample.",
)
@option(
    "--signatures",
    type=OUT,
    multiple=True,
    help="Keep what --pick looks at in this file; samples in it are not run again. Repeatable, for "
    "shards of the data.",
)
@option(
    "--write-cache",
    type=OUT,
    help="Write a calibration cache for TensorRT up to version 10, with ranges by --method.",
)
@options_of(Config, "method")
@option(
    "-o",
    "--out",
    type=OUT,
    named=_data_name,
    help=".json for polygraphy --load-inputs, .py for --data-loader-script, .npz, or a folder, "
    "which has a .npz a sample; with --through .npy too. Default: MODEL "
    "with .calib.npz.",
)
def command(model: Path | None, out: Path | None, **options: Any) -> int:
    """Check calibration data against MODEL and write it, or a part of it, in another form; or write
    what another model makes of it.

    Reads what --calib reads, including Polygraphy's --save-inputs JSON.
    """
    from onnxq import api
    from onnxq.words import count

    config = replace(config_of({k: options[k] for k in SAMPLES}), method=options["method"])
    if options["through"] is not None:
        return _through(options["through"], model, out, config, options)
    if options["maps"]:
        raise click.UsageError("--map is for --through FIRST.")
    if model is None:
        raise click.UsageError("Missing option '--model'.")
    if options["write_cache"] is not None:
        return _write_cache(model, out, config, options)
    files, pick = options["signatures"], options["pick"]
    if out is not None and files and pick is None:
        raise click.UsageError("--signatures is for --pick: give --pick N, or no -o.")
    with Bars() as bars:
        if out is None:
            known = api.sign_data(model, options["calib"], config, files, bars)
            counted = f"signatures of {count(len(known), 'sample')}"
        else:
            done = api.write_data(
                model, options["calib"], out, config, options["check_samples"], pick=pick,
                signatures=files, progress=bars,
            )  # fmt: skip
            counted = count(done, "sample")
    streams.out(counted)
    return 0


def _through(
    first: Path, model: Path | None, out: Path | None, config: Config, options: dict[str, Any]
) -> int:
    """What the first model gives, as data of the next."""
    from onnxq import api
    from onnxq.verbs.piping import parse_map
    from onnxq.words import count

    assert out is not None  # it has a name by default
    for name in ("pick", "check_samples", "signatures", "write_cache"):
        if options[name]:
            raise click.UsageError(f"--through writes all samples: leave out "
                                   f"--{name.replace('_', '-')}.")  # fmt: skip
    with Bars() as bars:
        done = api.data_through(
            first, options["calib"], out, config, following=model,
            mapping=parse_map(options["maps"]), progress=bars,
        )  # fmt: skip
    streams.out(count(done, "sample"))
    return 0


def _write_cache(model: Path, out: Path | None, config: Config, options: dict[str, Any]) -> int:
    """A calibration cache, and nothing else."""
    from onnxq import api
    from onnxq.words import count

    if out is not None or options["pick"] or options["check_samples"] or options["signatures"]:
        raise click.UsageError("--write-cache stands alone: leave out -o, --pick, --check-samples "
                               "and --signatures.")  # fmt: skip
    with Bars() as bars:
        done = api.write_cache(model, options["calib"], options["write_cache"], config, bars)
    streams.out(f"scales of {count(done, 'tensor')}")
    return 0
