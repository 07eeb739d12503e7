"""Calibration data of a model that remembers: which samples follow which.

    a folder                     a sequence; a folder of folders is one sequence each
    an array, or entry, `reset`  1 at the first sample of each sequence
    neither                      all data are one sequence

What is fed back is given at the first sample of a sequence or nowhere: it is zeros then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data import Dataset, Opened
from onnxq.calib.data_numpy import read_rows
from onnxq.calib.data_sources import RESET, Feeds, Rows, Source
from onnxq.calib.fitting import InputInfo
from onnxq.calib.in_memory import InHand
from onnxq.calib.opening import open_each, several_folders
from onnxq.calib.preprocess import Preprocess
from onnxq.calib.visited import Remembering, Step, Visited
from onnxq.errors import DataError


def open_sequences(
    sources: object,
    inputs: Mapping[str, InputInfo],
    model: Remembering,
    *,
    limit: int | None = None,
    seed: int = 0,
    preprocess: Preprocess | None = None,
) -> Dataset:
    """The samples of sequences, with the states that the float model brings to them; nothing is run
    yet.

    sources, limit, seed and preprocess: as of `open_data`. Raises DataError as that does, and for
    sequences that hold no second sample, or give what is fed back within them.
    """
    given = several_folders(sources)
    fed = frozenset(model.feedback.values())
    found = open_each(given, inputs, limit, seed, preprocess, fed)
    opened = Opened(given, found, limit, seed, preprocess)
    steps: list[Step] = []
    for each, source in zip(given, found, strict=True):
        own = isinstance(each, str | Path) and Path(each).is_dir()
        steps += _steps(source, fed, own or not steps)
    return looped(steps, inputs, model, opened)


def looped(
    steps: Sequence[Step],
    inputs: Mapping[str, InputInfo],
    model: Remembering,
    opened: Opened | None = None,
) -> Dataset:
    """A dataset of these samples; raises DataError where no sequence has a second one."""
    visited = Visited(steps, inputs, model)
    if len(steps) and len(visited.starts) == len(steps):
        pairs = ", ".join(f"{out}={name}" for out, name in model.feedback.items())
        raise DataError(
            f"--feedback {pairs}: no sequence has a second sample, so nothing is fed back; give "
            f"the samples of a sequence in order, with '{RESET}' 1 only at its first"
        )
    rows: list[tuple[Source, int]] = [(visited, i) for i in range(len(steps))]
    return Dataset(inputs, rows, 1, opened)


def begun(dataset: Dataset) -> set[int]:
    """The samples at which sequences begin, also of a model that is fed nothing back."""
    if dataset.visited is not None:
        return {i for i in range(len(dataset)) if dataset.begins(i)}
    if dataset.opened is None or dataset.batch > 1:
        return set()
    starts: set[tuple[int, int]] = set()
    for each, source in zip(dataset.opened.given, dataset.opened.sources, strict=True):
        own = isinstance(each, str | Path) and Path(each).is_dir()
        steps = _steps(source, frozenset(), own or not starts)
        starts |= {(id(source), step.record) for step in steps if step.begins is not None}
    return {i for i, (source, k) in enumerate(dataset.rows) if (id(source), k) in starts}


def _steps(source: Source, fed: frozenset[str], begins: bool) -> Iterator[Step]:
    """The samples of a source; begins: whether the first of them begins a sequence.

    Raises DataError for what is fed back and given within a sequence.
    """
    count = 0
    firsts: Mapping[str, Array] = getattr(source, "firsts", {})
    for i, (reset, given) in enumerate(_marks(source, fed)):
        starts = reset or (begins and i == 0)
        if given and not starts:
            raise DataError(
                f"{source.where(i)} gives input '{min(given)}' within a sequence, sample {i}, "
                f"where it is fed back; give it only where a sequence begins, at '{RESET}' 1"
            )
        yield Step(source, i, count if starts else None)
        count += starts
    for name, x in firsts.items():
        if len(x) != count:
            raise DataError(
                f"{source.where(0)} holds {len(x)} values of input '{name}', which is fed back, "
                f"and {count} sequences; give one for each, or none"
            )


def _marks(source: Source, fed: frozenset[str]) -> Iterator[tuple[bool, frozenset[str]]]:
    """(whether it begins a sequence, what it holds of what is fed back) of each record."""
    if isinstance(source, Rows | InHand):
        given = fed & source.arrays.keys()
        marks = source.arrays.get(RESET)
        for i in range(len(source)):
            yield marks is not None and _is_set(read_rows(marks, i, i + 1), source, i), given
    elif isinstance(source, Feeds):
        for i in range(len(source)):
            record = source.record(i)
            yield RESET in record and _is_set(record[RESET], source, i), fed & record.keys()
    else:
        for _ in range(len(source)):
            yield False, frozenset()


def _is_set(mark: Array, source: Source, i: int) -> bool:
    """The one number of `reset`; raises DataError where it is another thing."""
    x = np.asarray(mark)
    if x.size != 1 or x.dtype.kind not in "fiub":
        raise DataError(f"{source.where(i)}: '{RESET}' of sample {i} is {x.dtype} {x.shape}; give "
                        "one number a sample, 1 where a sequence begins")  # fmt: skip
    return bool(x.reshape(-1)[0])
