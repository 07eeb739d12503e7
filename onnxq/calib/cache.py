"""A folder of statistics that were counted before: what is there is not counted again.

A file is named by everything that the counts depend on: the model file, the samples, where the
model ran and the version of what ran it. It holds every tensor that was ever asked for, so that
another method, or another list of nodes to skip, runs nothing; a tensor that is new is counted and
added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from onnxq import __version__
from onnxq.arrays import Samples
from onnxq.calib.data import digests
from onnxq.calib.stats import Stats, add_digests
from onnxq.errors import DataError
from onnxq.run import runtime as ort
from onnxq.run.python_ops import file_of

Count = Callable[[Sequence[str]], Stats]


def cached(
    folder: str | Path,
    model: str,
    tensors: Sequence[str],
    data: Samples,
    runtime: ort.Runtime,
    count: Count,
) -> Stats:
    """Statistics of `tensors`: those in `folder`, and what `count` finds for the others.

    A file that cannot be read, or is of something else than its name says, is replaced. Raises
    DataError for a folder that cannot be made, and what `count` raises.
    """
    digest = add_digests(*digests(data))
    path = Path(folder) / f"stats-{_key(model, digest, runtime)}.npz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"--cache '{folder}' is not a folder that can be made: {e}") from e
    known = _load(path, model, digest, len(data))
    missing = [name for name in dict.fromkeys(tensors) if name not in known.histograms]
    if missing:
        found = count(missing)
        known = replace(known, histograms={**known.histograms, **found.histograms})
        known.save(path)
    return replace(known, histograms={name: known[name] for name in tensors})


def _load(path: Path, model: str, digest: str, samples: int) -> Stats:
    """What the file holds; nothing where it is missing, damaged or of something else."""
    nothing = Stats(model, {}, samples, digest)
    if not path.is_file():
        return nothing
    try:
        stats = Stats.load(path)
    except DataError:
        return nothing
    same = replace(stats, histograms={}) == nothing
    return stats if same else nothing


def _key(model: str, digest: str, runtime: ort.Runtime) -> str:
    said = [__version__, ort.version(), ort.resolved(runtime.provider), model, digest]
    said += [hashlib.sha256(file.read_bytes()).hexdigest() for file in _custom_ops(runtime)]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:32]


def _custom_ops(runtime: ort.Runtime) -> list[Path]:
    """The files that custom ops come from."""
    files = [runtime.ort_library]
    if runtime.ort_extension:
        files.append(file_of(runtime.ort_extension))
    return [file for file in files if file and file.is_file()]
