"""Calibration data: any of the forms of `data_sources`, fitted to the inputs of a model.

The first axis is the sample axis. A model whose inputs all have the same fixed first axis B > 1
gets B samples at a time, in order; what is left over is dropped, and said so.

Dtypes: a wider type of the same kind takes the narrower one (float16 for a float32 input, int32 for
int64). Anything else is refused: uint8 for float32 has most often missed its preprocessing, and
float64 or int64 would be cut without anyone knowing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data_sources import Record, Source, open_source
from onnxq.calib.stats import NO_DATA, add_digests, sample_digest
from onnxq.errors import DataError

log = logging.getLogger(__name__)

RANDOM_SAMPLES = 16


@dataclass(frozen=True)
class InputInfo:
    """One input of a model: its shape, None for a dynamic axis or, in its place, for a rank that
    the model does not declare; and its dtype."""

    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        axes = ", ".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.dtype} ({axes})"


@dataclass(frozen=True)
class Random:
    """Seeded noise: normal floats, zeros and ones for integers; an axis of unknown length is 1
    if it is the first."""

    inputs: Mapping[str, InputInfo]
    samples: int
    seed: int
    stacked = False

    def __len__(self) -> int:
        return self.samples

    def record(self, i: int) -> Record:
        rng = np.random.default_rng([self.seed, i])
        return {name: _noise(rng, name, info) for name, info in self.inputs.items()}

    def where(self, i: int) -> str:
        return "random data"


@dataclass(frozen=True)
class Opened:
    """What `open_data` was told, and the source of each text."""

    texts: Sequence[str]
    sources: Sequence[Source]
    limit: int | None
    seed: int


@dataclass(frozen=True)
class Dataset:
    """Samples for a model, on disk until asked for; safe to read from several threads.

    rows: (source, record number) of every sample's records, `batch` of them a sample. opened: how
    to open the sources again.
    """

    inputs: Mapping[str, InputInfo]
    rows: Sequence[tuple[Source, int]]
    batch: int = 1
    opened: Opened | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def sample(self, i: int) -> dict[str, Array]:
        """Sample i as the model takes it: every input by name, batch axis included.

        Raises DataError for data that does not fit the model.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        rows = self.rows[i * self.batch : (i + 1) * self.batch]
        feeds = [_fit(source, k, self.inputs, self.batch) for source, k in rows]
        if len(feeds) == 1:
            return feeds[0]
        return {name: np.concatenate([f[name] for f in feeds]) for name in self.inputs}

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self.sample(i) for i in range(len(self)))

    def shapes(self) -> Iterator[dict[str, tuple[int, ...]]]:
        """The inputs' shapes in each sample; in the first alone if the model has no others."""
        free = any(info.shape is None or None in info.shape for info in self.inputs.values())
        few = range(len(self) if free else min(1, len(self)))
        return ({name: x.shape for name, x in self.sample(i).items()} for i in few)

    def digest(self) -> str:
        """Digest of all samples, the same for any order: 64 hex digits. Reads everything."""
        return add_digests(NO_DATA, *(sample_digest(sample) for sample in self))

    def select(self, indices: Sequence[int]) -> Dataset:
        """The samples at `indices`, in that order."""
        rows = [r for i in indices for r in self.rows[i * self.batch : (i + 1) * self.batch]]
        return replace(self, rows=rows)

    def subset(self, samples: int, seed: int | None = None) -> Dataset:
        """`samples` of the samples, in order: evenly spread, or drawn with `seed`."""
        if not 1 <= samples <= len(self):
            raise DataError(
                f"cannot choose {samples} samples of {len(self)}; ask for 1 to {len(self)}"
            )
        if seed is None:
            return self.select(_spread(samples, len(self)))
        drawn = np.random.default_rng(seed).choice(len(self), samples, replace=False)
        return self.select(sorted(drawn.tolist()))

    def split(self, holdout: int) -> tuple[Dataset, Dataset]:
        """(the rest, `holdout` samples evenly spread): for fitting and for judging."""
        if not 1 <= holdout < len(self):
            raise DataError(
                f"cannot hold out {holdout} of {len(self)} samples; give more data or hold out less"
            )
        held = _spread(holdout, len(self))
        rest = sorted(set(range(len(self))) - set(held))
        return self.select(rest), self.select(held)


def open_data(
    sources: str | Sequence[str],
    inputs: Mapping[str, InputInfo],
    *,
    limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """The data of one or several sources, one after the other, checked against `inputs`.

    `limit` is how much of each generator or JSON file is read, and how many 'random' samples are
    drawn. Raises DataError for data that is missing, empty, unreadable or does not fit.
    """
    texts = [sources] if isinstance(sources, str) else list(sources)
    opened = Opened(texts, open_each(texts, inputs, limit, seed), limit, seed)
    rows = [(source, i) for source in opened.sources for i in range(len(source))]
    if not rows:
        raise DataError("no calibration data; name at least one file, folder or function")
    batch = _records_a_sample(rows[0], inputs)
    for start in {id(source): (source, 0) for source, _ in rows}.values():
        _fit(*start, inputs, batch)
    if len(rows) < batch:
        raise DataError(
            f"the model takes {batch} samples at a time and the data holds {len(rows)}; "
            f"give at least {batch}"
        )
    if left := len(rows) % batch:
        log.warning("the last %d of %d samples do not fill a batch of %d", left, len(rows), batch)
    return Dataset(inputs, rows[: len(rows) - left], batch, opened)


def open_each(
    texts: Sequence[str], inputs: Mapping[str, InputInfo], limit: int | None, seed: int
) -> list[Source]:
    """The source that each text names; raises DataError as `open_data`."""
    found: list[Source] = []
    for text in texts:
        if text == "random":
            found.append(Random(inputs, limit or RANDOM_SAMPLES, seed))
        else:
            found.append(open_source(text, list(inputs), limit))
        if not len(found[-1]):
            raise DataError(f"'{text}' holds no samples; give at least one")
    return found


def _records_a_sample(row: tuple[Source, int], inputs: Mapping[str, InputInfo]) -> int:
    """The model's fixed batch, or 1 where records are whole batches or the batch is free."""
    first = {info.shape[0] if info.shape else None for info in inputs.values()}
    batch = first.pop() if len(first) == 1 else None
    if batch is None or batch < 2:
        return 1
    try:
        _fit(*row, inputs, 1)
    except DataError:
        return batch
    return 1


def _fit(source: Source, i: int, inputs: Mapping[str, InputInfo], batch: int) -> dict[str, Array]:
    """Record i with its axes and dtypes as the model takes them; raises DataError."""
    record, where = source.record(i), source.where(i)
    if record.keys() != inputs.keys():
        listed = ", ".join(f"'{name}'" for name in inputs)
        unknown = [name for name in record if name not in inputs]
        missing = [name for name in inputs if name not in record]
        what = f"lacks input '{missing[0]}'" if missing else f"holds '{unknown[0]}'"
        more = f" but holds '{unknown[0]}'" if missing and unknown else ""
        raise DataError(f"{where} {what}{more}; the model's inputs are {listed}")
    return {
        name: _fit_one(record[name], info, f"{where}, input '{name}'", source.stacked, batch)
        for name, info in inputs.items()
    }


def _fit_one(x: Array, info: InputInfo, where: str, stacked: bool, batch: int) -> Array:
    if info.shape is None:  # as it is, in a stack a batch of one
        return _typed(x, info, where)
    given, rank = x, len(info.shape)
    if x.ndim == rank + 1 and len(x) == 1:
        x = x[0]
    elif x.ndim == rank - 1 and not stacked:
        x = x[None]
    lengths = info.shape if batch == 1 else (1, *info.shape[1:])
    fits = x.ndim == rank and all(n in (None, m) for n, m in zip(lengths, x.shape, strict=True))
    if not fits:
        axes = ["samples", *map(str, given.shape[1:])] if stacked else map(str, given.shape)
        found = f"({', '.join(axes)})"
        advice = "the first axis is the sample axis" if stacked else "write it in that shape"
        raise DataError(f"{where}: expected {info}, found {given.dtype} {found}; {advice}")
    return _typed(x, info, where)


def _typed(x: Array, info: InputInfo, where: str) -> Array:
    if x.dtype == info.dtype:
        return np.asarray(x, order="C")
    if x.dtype.kind != info.dtype.kind or not np.can_cast(x.dtype, info.dtype, "safe"):
        raise DataError(
            f"{where}: expected {info.dtype}, found {x.dtype}; preprocess the samples as for "
            f"inference and save them with .astype(np.{info.dtype})"
        )
    return np.asarray(x, info.dtype, order="C")


def _noise(rng: np.random.Generator, name: str, info: InputInfo) -> Array:
    shape = tuple(1 if n is None and k == 0 else n for k, n in enumerate(info.shape or (0, None)))
    if None in shape:
        raise DataError(
            f"random data for input '{name}', {info}, needs its lengths; fix them in the model or "
            "give real data"
        )
    if info.dtype.kind == "f":
        return rng.standard_normal(shape).astype(info.dtype)  # type: ignore[arg-type]
    return rng.integers(0, 2, shape).astype(info.dtype)  # type: ignore[arg-type]


def _spread(n: int, length: int) -> list[int]:
    return [(2 * i + 1) * length // (2 * n) for i in range(n)]
