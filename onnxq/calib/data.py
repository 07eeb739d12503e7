"""Calibration data: any of the forms of `data_sources`, fitted to the inputs of a model.

The first axis is the sample axis. A model whose inputs all have the same fixed first axis B > 1
gets B samples at a time, in order; what is left over is dropped, and said so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from onnxq.arrays import Array, Samples
from onnxq.calib.data_sources import Rows, Source
from onnxq.calib.facts import Facts, facts_of
from onnxq.calib.fitting import InputInfo as InputInfo
from onnxq.calib.fitting import fit, fitted
from onnxq.calib.opening import as_several, open_each, several_folders
from onnxq.calib.preprocess import Preprocess
from onnxq.calib.stats import NO_DATA, add_digests, sample_digest
from onnxq.calib.visited import Visited
from onnxq.errors import DataError

log = logging.getLogger(__name__)

TOGETHER, MOST = 1 << 20, 4096  # bytes and number of small samples that are read at once
READERS = 2  # threads that look at samples


@dataclass(frozen=True)
class Opened:
    """What `open_data` was told, and the source of each thing that was given."""

    given: Sequence[object]
    sources: Sequence[Source]
    limit: int | None
    seed: int
    preprocess: Preprocess | None = None


@dataclass(frozen=True)
class Dataset:
    """Samples for a model, on disk until asked for; safe to read from several threads.

    rows: (source, record number) of every sample's records, `batch` of them a sample. opened: how
    to open the sources again. What was found out about a sample is known to all that are selected
    from the same dataset.
    """

    inputs: Mapping[str, InputInfo]
    rows: Sequence[tuple[Source, int]]
    batch: int = 1
    opened: Opened | None = field(default=None, compare=False, repr=False)
    _facts: dict[object, Facts] = field(default_factory=dict, compare=False, repr=False)
    _own: list[Facts] = field(default_factory=list, init=False, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def sample(self, i: int) -> dict[str, Array]:
        """Sample i as the model takes it: every input by name, batch axis included.

        Raises DataError for data that does not fit the model.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        rows = self.rows[i * self.batch : (i + 1) * self.batch]
        feeds = [fit(source, k, self.inputs, self.batch) for source, k in rows]
        if len(feeds) == 1:
            return feeds[0]
        return {name: np.concatenate([f[name] for f in feeds]) for name in self.inputs}

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self.sample(i) for i in range(len(self)))

    def together(self, indices: Iterable[int]) -> Iterator[list[int]]:
        """The indices in their order, small samples that follow one another in a file as a list."""
        run: list[int] = []
        most, first = 1, -1
        for i in indices:
            if run and not (i == run[-1] + 1 and len(run) < most and self._follows(first, i)):
                yield run
                run = []
            if not run:
                most, first = self._most(i), i
            run.append(i)
        if run:
            yield run

    def _most(self, i: int) -> int:
        """How many samples are read at once from sample i on."""
        source = self.rows[i][0] if self.batch == 1 else None
        if not isinstance(source, Rows):
            return 1
        return min(MOST, TOGETHER // max(1, source.row_bytes))

    def _follows(self, first: int, i: int) -> bool:
        """Whether sample i lies behind `first` in its file."""
        (a, k), (b, n) = self.rows[first], self.rows[i]
        return a is b and n > k

    def block(self, indices: Sequence[int]) -> dict[str, Array]:
        """The samples at `indices`, a list of `together`: one behind the other, with one more axis
        in front. Raises DataError as `sample`."""
        if len(indices) == 1:
            return {name: x[None] for name, x in self.sample(indices[0]).items()}
        source, start = self.rows[indices[0]]
        assert isinstance(source, Rows)
        records = source.records([self.rows[i][1] for i in indices])
        first = {name: x[:1] for name, x in records.items()}
        sound = fitted(first, source, start, self.inputs, self.batch)
        return {
            name: np.asarray(records[name], x.dtype, order="C").reshape(len(indices), *x.shape)
            for name, x in sound.items()
        }

    def facts(self) -> Sequence[Facts]:
        """What is to know of each sample; reads those that nobody looked at yet."""
        if not self._own:
            rows = [self._row(i) for i in range(len(self))]
            missing = [i for i, row in enumerate(rows) if row not in self._facts]
            with ThreadPoolExecutor(READERS, "look") as pool:
                for _ in pool.map(self._look, self.together(missing)):
                    pass
            self._own[:] = [self._facts[row] for row in rows]
        return self._own

    def _look(self, indices: Sequence[int]) -> None:
        self.noted(indices, self.block(indices))

    def noted(self, indices: Sequence[int], block: Mapping[str, Array]) -> list[Facts]:
        """The facts of the samples at `indices`, which `block` holds."""
        rows = [self._row(i) for i in indices]
        if any(row not in self._facts for row in rows):
            self._facts.update(zip(rows, facts_of(block), strict=True))
        return [self._facts[row] for row in rows]

    def _row(self, i: int) -> object:
        """What stands for sample i in every dataset that is made of this one."""
        if self.batch == 1:
            source, k = self.rows[i]
            return id(source), k
        return tuple((id(s), k) for s, k in self.rows[i * self.batch : (i + 1) * self.batch])

    @property
    def visited(self) -> Visited | None:
        """The sequences that the samples are of, with the states that a model brings to them."""
        source = self.rows[0][0] if self.rows else None
        return source if isinstance(source, Visited) else None

    @property
    def feedback(self) -> Mapping[str, str]:
        """Output -> the input of the next sample that it becomes."""
        return {} if self.visited is None else self.visited.model.feedback

    def begins(self, i: int) -> bool:
        """Whether sample i begins a sequence."""
        return self.visited is not None and self.visited.steps[self.rows[i][1]].begins is not None

    def follows(self, i: int) -> bool:
        """Whether sample i comes right behind sample i - 1 in a sequence."""
        if self.visited is None or i == 0 or self.begins(i):
            return False
        return self.rows[i][1] == self.rows[i - 1][1] + 1

    def shapes(self) -> Iterator[Mapping[str, tuple[int, ...]]]:
        """The inputs' shapes in each sample; in the first alone if the model has no others."""
        free = any(info.shape is None or None in info.shape for info in self.inputs.values())
        few = self if free else self.select(range(min(1, len(self))))
        return (facts.shapes for facts in few.facts())

    def digest(self) -> str:
        """Digest of all samples, the same for any order: 64 hex digits."""
        return add_digests(NO_DATA, *(facts.digest for facts in self.facts()))

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

    def sequences(self) -> list[list[int]]:
        """The samples of each sequence, or of what is left of it; alone, where nothing is fed
        back."""
        found: list[list[int]] = []
        for i in range(len(self)):
            if self.follows(i):
                found[-1].append(i)
            else:
                found.append([i])
        return found

    def beginnings(self, samples: int, seed: int | None = None) -> Dataset:
        """`samples` of the samples as whole sequences, the last of which ends early: as few as hold
        them, evenly spread, or drawn with `seed`. Without sequences as `subset`."""
        if self.visited is None or not 1 <= samples <= len(self):
            return self.subset(samples, seed)
        every = self.sequences()
        order = np.random.default_rng(seed).permutation(len(every)).tolist()
        for number in range(1, len(every) + 1):
            chosen = order[:number] if seed is not None else _spread(number, len(every))
            found = [i for k in sorted(chosen) for i in every[k]]
            if len(found) >= samples:
                break
        return self.select(found[:samples])

    def split(self, holdout: int) -> tuple[Dataset, Dataset]:
        """(the rest, `holdout` samples evenly spread): for fitting and for judging."""
        if not 1 <= holdout < len(self):
            raise DataError(
                f"cannot hold out {holdout} of {len(self)} samples; give more data or hold out less"
            )
        held = _spread(holdout, len(self))
        rest = sorted(set(range(len(self))) - set(held))
        return self.select(rest), self.select(held)


def digests(data: Samples) -> list[str]:
    """The digest of each sample."""
    if isinstance(data, Dataset):
        return [facts.digest for facts in data.facts()]
    return [sample_digest(data.sample(i)) for i in range(len(data))]


def open_data(
    sources: object,
    inputs: Mapping[str, InputInfo],
    *,
    limit: int | None = None,
    seed: int = 0,
    preprocess: Preprocess | None = None,
) -> Dataset:
    """The data of one or several sources, one after the other, checked against `inputs`.

    A source is a text, as of `--calib`, a path, or data in hand (see `in_memory`); a list or tuple
    of texts and paths is several. `limit` is how much of each generator or JSON file is read, and
    how many 'random' samples are drawn. `preprocess` makes images inputs.
    Raises DataError for data that is missing, empty, unreadable or does not fit.
    """
    given = several_folders(sources) if preprocess is None else as_several(sources)
    opened = Opened(given, open_each(given, inputs, limit, seed, preprocess), limit, seed,
                    preprocess)  # fmt: skip
    rows = [(source, i) for source in opened.sources for i in range(len(source))]
    if not rows:
        raise DataError("no calibration data; name at least one file, folder or function")
    batch = _records_a_sample(rows[0], inputs)
    for start in {id(source): (source, 0) for source, _ in rows}.values():
        fit(*start, inputs, batch)
    if len(rows) < batch:
        raise DataError(
            f"the model takes {batch} samples at a time and the data holds {len(rows)}; "
            f"give at least {batch}"
        )
    if left := len(rows) % batch:
        log.warning("the last %d of %d samples do not fill a batch of %d", left, len(rows), batch)
    return Dataset(inputs, rows[: len(rows) - left], batch, opened)


def _records_a_sample(row: tuple[Source, int], inputs: Mapping[str, InputInfo]) -> int:
    """The model's fixed batch, or 1 where records are whole batches or the batch is free."""
    first = {info.shape[0] if info.shape else None for info in inputs.values()}
    batch = first.pop() if len(first) == 1 else None
    if batch is None or batch < 2:
        return 1
    try:
        fit(*row, inputs, 1)
    except DataError:
        return batch
    return 1


def _spread(n: int, length: int) -> list[int]:
    return [(2 * i + 1) * length // (2 * n) for i in range(n)]
