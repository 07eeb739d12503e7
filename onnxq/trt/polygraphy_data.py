"""Calibration data in Polygraphy's forms: `--load-inputs` JSON and `--data-loader-script`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnxq.calib.data import Dataset
from onnxq.files import replacing, write_text

_SCRIPT = '''"""Data loader for Polygraphy: `--data-loader-script {name}`. Written by onnxq."""

from onnxq import api

MODEL = {model!r}
CALIB = {calib!r}


def load_data():
    """Yield one feed, a dict of input name to array, at a time."""
    yield from api.data(api.prepare(MODEL), CALIB)
'''


def save_json(dataset: Dataset, path: Path) -> None:
    """Write the samples as Polygraphy's `--load-inputs` reads them. Holds them all in memory."""
    from polygraphy.json import save_json as write

    with replacing(path) as temporary:
        write([dataset.sample(i) for i in range(len(dataset))], str(temporary))


def save_script(model: Path, calib: Sequence[str], path: Path) -> None:
    """Write a data-loader script that streams the samples from where they lie."""
    sources = [str(Path(c).resolve()) if Path(c).exists() else c for c in calib]
    text = _SCRIPT.format(name=path.name, model=str(model.resolve()), calib=sources)
    write_text(path, text)
