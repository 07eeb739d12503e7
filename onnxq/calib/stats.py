"""Statistics: one histogram per tensor, and what they were counted on. They know no method.

Merging is adding: any split of the data over batches, processes or machines ends in the same
`Stats`. For that the digest of the data is a sum too: of the samples' SHA-256, modulo 2**256.

Saved as `stats.npz`: `header` is JSON text (kind, version, model, data, samples, tensor names); the
histograms lie behind one another in `bins` and `counts`, those of tensor i from `offsets[i]` to
`offsets[i + 1]`, with its exact bounds in `minmax[i]`. No pickles.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.calib import histogram
from onnxq.calib.data_numpy import UNREADABLE
from onnxq.calib.histogram import Histogram
from onnxq.errors import DataError
from onnxq.files import replacing
from onnxq.json_text import from_json
from onnxq.saved import FileForm
from onnxq.table import Table, page

FORM = FileForm(
    "onnxq.stats", 1, DataError,
    absent="no statistics at '{path}'; 'onnxq calibrate --save-stats' writes them",
    other="'{path}' holds no statistics this version reads: {found}",
    broken="'{path}' is not a statistics file or is cut short ({class}: {why}); "
    "'onnxq calibrate --save-stats' writes one",
    model="the statistics were counted on model {own}, this one is {this}; "
    "run 'onnxq calibrate' on this model",
)  # fmt: skip
TYPES = {"offsets": "int64", "bins": "uint16", "counts": "int64", "minmax": "float32"}
SMALL, MOST_PACKED = 64 << 20, 8  # bytes, and times its size: what a file may unpack to
NO_DATA, DIGEST = "0" * 64, 32  # bytes of a SHA-256


@dataclass(frozen=True)
class Stats:
    """What calibration saw.

    model: SHA-256 of the model file.
    histograms: tensor name -> Histogram, sorted by name.
    samples: how many samples were run.
    data: digest of those samples, 64 hex digits; their order does not matter.
    """

    model: str
    histograms: Mapping[str, Histogram]
    samples: int
    data: str = NO_DATA

    def __post_init__(self) -> None:
        object.__setattr__(self, "histograms", dict(sorted(self.histograms.items())))

    def __repr__(self) -> str:
        counted = f"{len(self.histograms)} tensors, {self.samples} samples"
        return f"Stats({counted}, model {self.model[:12]})"

    def _repr_html_(self) -> str:
        heading = f"Statistics of {len(self.histograms)} tensors over {self.samples} samples"
        return page(heading, self.table())

    def table(self) -> Table:
        """What was counted of each tensor, the widest first."""
        widest = sorted(self.histograms.items(), key=lambda item: -item[1].amax)
        rows = [
            (name, f"{h.count:,}", h.min, h.max, f"{100 * (h.zeros / max(h.count, 1)):.3g}")
            for name, h in widest
        ]
        return Table("Statistics", ("tensor", "values", "min", "max", "zero %"), rows)

    def __getitem__(self, tensor: str) -> Histogram:
        """The histogram of a tensor; raises DataError where it was not observed."""
        if tensor not in self.histograms:
            raise DataError(
                f"no statistics for tensor '{tensor}'; run 'onnxq calibrate' on this model and plan"
            )
        return self.histograms[tensor]

    def check_model(self, model: str) -> None:
        """Raises DataError unless the statistics were counted on the model with this hash."""
        FORM.check_model(self.model, model)

    def save(self, path: str | Path) -> None:
        """Write `stats.npz`, whole or not at all; equal statistics give equal bytes."""
        self._write(Path(path), {}, {})

    def save_unfinished(self, path: str | Path, digests: Iterable[str]) -> None:
        """Write what is counted so far, with the digests of the samples behind it."""
        done = b"".join(map(bytes.fromhex, sorted(digests)))
        self._write(Path(path), {"unfinished": True}, {"done": np.frombuffer(done, np.uint8)})

    def _write(self, path: Path, more: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        each = list(self.histograms.values())
        header = {
            **FORM.head(),
            "model": self.model,
            "data": self.data,
            "samples": self.samples,
            "tensors": list(self.histograms),
            **more,
        }
        empty = histogram.EMPTY
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                header=np.frombuffer(json.dumps(header).encode(), np.uint8),
                offsets=np.cumsum([0, *(h.bins.size for h in each)]),
                bins=np.concatenate([empty.bins, *(h.bins for h in each)]),
                counts=np.concatenate([empty.counts, *(h.counts for h in each)]),
                minmax=np.array([(h.min, h.max) for h in each], np.float32).reshape(-1, 2),
                **arrays,
            )

    @staticmethod
    def load(path: str | Path) -> Stats:
        """Read `stats.npz`; raises DataError for a file that is not a finished one of this
        version."""
        stats, done = FORM.read(Path(path), _read, UNREADABLE)
        if done is not None:
            raise DataError(
                f"'{path}' is unfinished, with {stats.samples} samples counted; the command that "
                "began it goes on with it"
            )
        return stats


def load_unfinished(path: Path) -> tuple[Stats, list[str]] | None:
    """Statistics that a run left unfinished, and the digests of its samples; None if the file is
    finished. Raises DataError as `Stats.load` does."""
    stats, done = FORM.read(path, _read, UNREADABLE)
    return None if done is None else (stats, done)


def _read(path: Path) -> tuple[Stats, list[str] | None]:
    """Statistics, and the digests of their samples if they are unfinished."""
    _refuse_bombs(path)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    stats = _from_arrays(arrays, path)
    if "done" not in arrays:
        return stats, None
    rows = arrays["done"].reshape(stats.samples, DIGEST)
    return stats, [row.tobytes().hex() for row in rows]


def _refuse_bombs(path: Path) -> None:
    """Raises ValueError for a file that unpacks to far more than it is: statistics are stored as
    they are, and read whole."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > max(SMALL, MOST_PACKED * path.stat().st_size):
        raise ValueError(f"it unpacks to {unpacked >> 20} MB")


def merge(*stats: Stats) -> Stats:
    """The statistics of all the data: exact, associative and commutative.

    A tensor counted in some only is kept. Raises DataError for statistics of different models.
    """
    if not stats:
        raise DataError("no statistics to merge; name at least one file")
    return reduce(_add, stats)


def _add(a: Stats, b: Stats) -> Stats:
    if a.model != b.model:
        raise DataError(
            f"these statistics are of different models, {a.model[:12]} and {b.model[:12]}; "
            "merge shards of one model only"
        )
    names = a.histograms.keys() | b.histograms.keys()
    none = histogram.EMPTY
    merged = {
        name: histogram.merge(a.histograms.get(name, none), b.histograms.get(name, none))
        for name in names
    }
    return Stats(a.model, merged, a.samples + b.samples, add_digests(a.data, b.data))


def sample_digest(sample: Mapping[str, Array]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of one sample, as 64 hex digits."""
    sha = hashlib.sha256()
    for name, x in sorted(sample.items()):
        sha.update(digest_head(name, x))
        sha.update(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def digest_head(name: str, x: Array) -> bytes:
    """What is hashed of an input before its bytes."""
    return f"{name}\0{x.dtype.str}\0{x.shape}\0".encode()


def add_digests(*digests: str) -> str:
    """Digests added up modulo 2**256: the same for any order and any split of the samples."""
    return f"{sum(int(d, 16) for d in digests) % 2**256:064x}"


def _from_arrays(arrays: Mapping[str, Any], path: Path) -> Stats:
    header = from_json(bytes(arrays["header"])) if "header" in arrays else {}
    FORM.check(header, path)
    for name, kind in TYPES.items():
        if arrays[name].dtype != kind:
            raise ValueError(f"'{name}' is {arrays[name].dtype}, expected {kind}")
    for name, of in (("model", str), ("data", str), ("samples", int), ("tensors", list)):
        if type(header[name]) is not of:
            raise ValueError(f"'{name}' is {header[name]!r}")
    if header["samples"] < 0 or not re.fullmatch("[0-9a-f]{64}", header["data"]):
        raise ValueError(f"{header['samples']} samples with digest '{header['data']}'")
    names, offsets = header["tensors"], arrays["offsets"].tolist()
    bins, counts, minmax = arrays["bins"], arrays["counts"], arrays["minmax"].tolist()
    sizes = (len(names), len(minmax), offsets[-1], len(counts))
    if sizes != (len(offsets) - 1, len(offsets) - 1, len(bins), len(bins)):
        raise ValueError(f"{len(names)} tensors, {len(bins)} bins, {len(counts)} counts")
    histograms = {
        name: Histogram(bins[start:end], counts[start:end], low, high)
        for name, start, end, (low, high) in zip(
            names, offsets[:-1], offsets[1:], minmax, strict=True
        )
    }
    for name, one in histograms.items():
        _check(name, one)
    return Stats(header["model"], histograms, header["samples"], header["data"])


def _check(name: str, one: Histogram) -> None:
    """Raises ValueError unless a histogram is one that `Accumulator` can have counted."""
    magnitude = (one.bins & 0x7FFF).astype(np.int64)
    order = np.where(one.bins >> 15, -1 - magnitude, magnitude)
    if np.any(np.diff(order) <= 0) or np.any(one.counts <= 0):
        raise ValueError(f"the bins of '{name}' are out of order or empty")
    bounds = np.isfinite([one.min, one.max]).all() and one.min <= one.max
    if one.bins.size and not one.nonfinite and not bounds:
        raise ValueError(f"'{name}' goes from {one.min} to {one.max}")
