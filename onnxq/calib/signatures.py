"""What is kept of each sample of many, to pick some by: a signature.

For each tensor that is the largest magnitude m, and how many values lie in each octave below it,

    counts[k] = values with  2^(e-k) <= |x| < 2^(e-k+1),  e = floor(log2 m);  the last has the rest

exact counts of that sample alone, a few dozen bytes a tensor however large it is. Signatures are
sets: those of shards are put together, and no order of samples or shards changes anything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data import Dataset, digests
from onnxq.calib.data_numpy import UNREADABLE
from onnxq.calib.histogram import Octaves
from onnxq.calib.ways import compile_counting
from onnxq.errors import DataError
from onnxq.files import replacing
from onnxq.json_text import from_json
from onnxq.model.graph import Graph
from onnxq.progress import Count
from onnxq.run import runtime as ort
from onnxq.run.program import Program, Runner, as_it_runs
from onnxq.saved import FileForm

DEPTH = 12  # octaves below the largest magnitude that are told apart

FORM = FileForm(
    "onnxq.signatures", 1, DataError,
    absent="no signatures at '{path}'",
    other="'{path}' holds no signatures this version reads: {found}",
    broken="'{path}' is not a file of signatures or is cut short ({class}: {why}); delete it",
    model="the signatures are of model {own}, this one is {this}; name another file",
)  # fmt: skip


@dataclass(frozen=True)
class Signatures:
    """What is known of samples, sorted by digest.

    model: hash of the model file. tensors: that were looked at. amax: float32, shape (samples,
    tensors), the largest magnitudes. counts: uint32, by octave, one more axis of DEPTH.
    """

    model: str
    tensors: tuple[str, ...]
    digests: tuple[str, ...]
    amax: Array
    counts: Array

    def __len__(self) -> int:
        return len(self.digests)

    def of(self, digests: Iterable[str]) -> Signatures:
        """Those of the samples with these digests."""
        wanted = set(digests)
        rows = [i for i, digest in enumerate(self.digests) if digest in wanted]
        names = tuple(self.digests[i] for i in rows)
        return replace(self, digests=names, amax=self.amax[rows], counts=self.counts[rows])

    def check(self, model: str, tensors: Sequence[str]) -> None:
        """Raises DataError unless these are of that model, at those tensors."""
        FORM.check_model(self.model, model)
        if self.tensors != tuple(tensors):
            raise DataError("the signatures are of other tensors of this model, as another version "
                            "chose them; name another file")  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write them, whole or not at all; equal ones give equal bytes."""
        header = {**FORM.head(), "model": self.model, "tensors": self.tensors}
        digests = np.frombuffer(b"".join(map(bytes.fromhex, self.digests)), np.uint8)
        with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                header=np.frombuffer(json.dumps(header).encode(), np.uint8),
                digests=digests.reshape(len(self), 32),
                amax=self.amax,
                counts=self.counts,
            )

    @staticmethod
    def load(path: str | Path) -> Signatures:
        """Read them; raises DataError for a file that holds none of this version."""
        return FORM.read(Path(path), _read, UNREADABLE)


def _read(path: Path) -> Signatures:
    with np.load(path, allow_pickle=False) as archive:
        header = from_json(bytes(archive["header"]))
        FORM.check(header, path)
        digests = tuple(row.tobytes().hex() for row in archive["digests"])
        amax, counts = archive["amax"], archive["counts"]
    shape = (len(digests), len(header["tensors"]))
    if amax.shape != shape or counts.shape != (*shape, DEPTH):
        raise ValueError(f"{shape[0]} samples, {shape[1]} tensors, counts {counts.shape}")
    if amax.dtype != np.float32 or counts.dtype != np.uint32 or not np.isfinite(amax).all():
        raise ValueError("its figures are no finite magnitudes and counts")
    return Signatures(header["model"], tuple(header["tensors"]), digests, amax, counts)


def merge(*several: Signatures) -> Signatures:
    """All samples of all: a set, so shards may overlap and come in any order.

    Raises DataError for signatures of different models or tensors.
    """
    first = several[0]
    for one in several:
        one.check(first.model, first.tensors)
    place = {d: (one, i) for one in several for i, d in enumerate(one.digests)}
    rows = sorted(place.items())
    return _signatures(
        first.model,
        first.tensors,
        [digest for digest, _ in rows],
        [one.amax[i] for _, (one, i) in rows],
        [one.counts[i] for _, (one, i) in rows],
    )


def _signatures(
    model: str,
    tensors: Sequence[str],
    digests: Sequence[str],
    amax: Sequence[Array],
    counts: Sequence[Array],
) -> Signatures:
    shape = (len(digests), len(tensors))
    return Signatures(
        model,
        tuple(tensors),
        tuple(digests),
        np.array(amax, np.float32).reshape(shape),
        np.array(counts, np.uint32).reshape(*shape, DEPTH),
    )


def sign(
    graph: Graph,
    tensors: Sequence[str],
    data: Dataset,
    *,
    model: str = "",
    runtime: ort.Runtime | None = None,
    workers: int = 2,
    progress: Count | None = None,
    known: Signatures | None = None,
) -> Signatures:
    """The signatures of the samples, by one run over each that is not `known`; of equal samples
    one. They are counted on the CPU. Raises as `collect` does."""
    first: dict[str, int] = {}
    for i, digest in enumerate(digests(data)):
        first.setdefault(digest, i)
    todo = [i for d, i in first.items() if known is None or d not in known.digests]
    if not todo:
        return merge(known) if known else _signatures(model, tensors, [], [], [])
    runtime = replace(runtime or ort.Runtime(), provider="cpu")
    program = compile_counting(graph, tensors, runtime, data.sample(0))
    chosen = data.select(todo)
    rows = as_it_runs(program, lambda now: _run(now, tensors, chosen, workers, progress))
    found = dict(zip((d for d, i in first.items() if i in set(todo)), rows, strict=True))
    new = _signatures(
        model,
        tensors,
        sorted(found),
        [found[d][0] for d in sorted(found)],
        [found[d][1] for d in sorted(found)],
    )
    return merge(known, new) if known else new


def _run(
    program: Program, tensors: Sequence[str], data: Dataset, workers: int, progress: Count | None
) -> list[tuple[Array, Array]]:
    """The magnitudes and counts of each sample."""
    own = threading.local()
    places: dict[str, list[int]] = {}
    for k, name in enumerate(tensors):
        places.setdefault(program.place.get(name, name), []).append(k)

    def look(i: int) -> tuple[Array, Array]:
        if not hasattr(own, "runner"):
            own.runner, own.octaves = Runner(program), Octaves()
        amax = np.zeros(len(tensors), np.float32)
        counts = np.zeros((len(tensors), DEPTH), np.uint32)
        live = program.checked(data.sample(i))
        for values in chain([live.copy()], own.runner.run(live)):
            for name in values.keys() & places.keys():
                for k in places[name]:
                    amax[k], counts[k] = _signature(values[name], own.octaves, tensors[k])
        return amax, counts

    found = []
    with ThreadPoolExecutor(workers, "pick") as pool:
        try:
            for row in pool.map(look, range(len(data))):
                found.append(row)
                if progress is not None:
                    progress(len(found), len(data))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _signature(values: Array, octaves: Octaves, name: str) -> tuple[float, Array]:
    """The largest magnitude, and the counts of DEPTH octaves from it down."""
    by_exponent, low, high = octaves.count(values)
    amax = max(-low, high) if np.size(values) else 0.0
    if by_exponent[-1] or not np.isfinite(amax):
        raise DataError(f"tensor '{name}' has NaN or infinite values in a sample; mend the data")
    top = int(by_exponent.nonzero()[0][-1]) if by_exponent.any() else 0
    found = np.zeros(DEPTH, np.uint32)
    near = by_exponent[max(0, top - DEPTH + 1) : top + 1][::-1]
    found[: near.size] = near
    found[-1] += by_exponent[: max(0, top - DEPTH + 1)].sum()
    return amax, found
