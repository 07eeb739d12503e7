"""`onnxq doctor`: versions, providers and what works here."""

from __future__ import annotations

import json

import click


@click.command(name="doctor", epilog="Example: onnxq doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> int:
    """Show versions, ONNX Runtime's providers, TensorRT and whether the fast paths are there."""
    from onnxq import providers, runtime
    from onnxq.calib.histogram import HAVE_COMPILED
    from onnxq.errors import OnnxqError
    from onnxq.report import manifest, text

    found = dict(manifest.versions())
    try:
        found["providers"] = ", ".join(runtime.available())
        found["--provider cuda"] = providers.trouble_with_cuda() or "works"
    except OnnxqError as e:
        found["providers"] = str(e)
    found["compiled binning"] = "yes" if HAVE_COMPILED else "no: calibration is slower"
    for package in ("tensorrt", "tensorrt-rtx", "polygraphy"):
        found[package] = manifest.version_of(package) or "not installed"
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        text.show(text.table("onnxq doctor", ("what", "here"), found.items()))
    return 0
