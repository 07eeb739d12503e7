"""Samples of sequences, each complete with the state that the float model brings to it.

A sequence begins at zeros, or at what the data give there. The model is run over it once, on one
thread, the first time that one of its states is asked for; the states stay in a file. So whatever
takes samples takes these, and sees what the model really comes to see, in any order of sequences.
"""

from __future__ import annotations

import tempfile
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxq.arrays import Array, Sample
from onnxq.calib.data_sources import Record, Source
from onnxq.calib.fitting import InputInfo, fitted
from onnxq.errors import DataError
from onnxq.progress import counting
from onnxq.run.runtime import Runtime

Run = Callable[[Sample], Mapping[str, Array]]
Axes = Mapping[str, Sequence[int | str | None] | None]  # of inputs: lengths, and names of others


@dataclass(frozen=True)
class Remembering:
    """How a model remembers. feedback: output -> the input that it becomes. axes: of the inputs, as
    the model declares them. opens: what runs the float model, in `runtime`, tried on a first
    sample."""

    feedback: Mapping[str, str]
    axes: Axes
    opens: Callable[[Sample], Run]
    runtime: Runtime


@dataclass(frozen=True)
class Step:
    """Where a sample comes from. begins: at which of the sequences of its source, None within
    one."""

    source: Source
    record: int
    begins: int | None


class Visited:
    """The samples of sequences, one behind the other; a source of complete records."""

    stacked = False

    def __init__(
        self, steps: Sequence[Step], inputs: Mapping[str, InputInfo], model: Remembering
    ) -> None:
        """`steps`: those of each sequence together, the first of which begins one."""
        self.steps, self.inputs, self.model = steps, inputs, model
        self.starts = [i for i, step in enumerate(steps) if step.begins is not None]
        self._states = _States()
        self._locks = [threading.Lock() for _ in self.starts]
        self._reached = list(self.starts)  # of each sequence the last sample whose state is known
        self._run: Run | None = None
        self._opening = threading.Lock()

    def __len__(self) -> int:
        return len(self.steps)

    def where(self, i: int) -> str:
        """What record i is called in messages."""
        return self.steps[i].source.where(self.steps[i].record)

    def record(self, i: int) -> Record:
        """Sample i with the state that the model comes to it with."""
        k = self._sequence(i)
        if i == self.starts[k]:
            return self._first(i)
        self._visit(k, i)
        return {**self._given(i), **self._states.read(i)}

    def visit(self, samples: Iterable[int], workers: int) -> None:
        """Run the model over the sequences as far as these samples, `workers` sequences side by
        side; it is then let go of. Raises what running it raises, and DataError for data that do
        not fit."""
        last: dict[int, int] = {}
        for i in samples:
            k = self._sequence(i)
            last[k] = max(i, last.get(k, i))
        tick = counting("sequences", sum(i - self.starts[k] for k, i in last.items()))
        with ThreadPoolExecutor(workers, "sequences") as pool:
            for _ in pool.map(lambda pair: self._visit(pair[0], pair[1], tick), last.items()):
                pass
        self._run = None

    def _sequence(self, i: int) -> int:
        """The number of the sequence that sample i is of."""
        return bisect_right(self.starts, i) - 1

    def _visit(self, k: int, last: int, tick: Callable[[], None] = lambda: None) -> None:
        """Run the model over sequence k until the state of sample `last` is there."""
        with self._locks[k]:
            at = self._reached[k]
            for i in range(at + 1, last + 1):
                if i - 1 == self.starts[k]:
                    sample = self._first(i - 1)
                elif i - 1 == at:
                    sample = {**self._given(at), **self._states.read(at)}
                found = self._opened(sample)(sample)
                state = {name: found[out] for out, name in self.model.feedback.items()}
                self._states.write(i, state)
                self._reached[k] = i
                sample = {**self._given(i), **state} if i < last else {}
                tick()

    def _opened(self, sample: Sample) -> Run:
        with self._opening:
            if self._run is None:
                self._run = self.model.opens(sample)
            return self._run

    def _given(self, i: int) -> dict[str, Array]:
        """What the data give of sample i, as the model takes it."""
        step = self.steps[i]
        record = dict(step.source.record(step.record))
        fed = set(self.model.feedback.values())
        if step.begins is not None:
            firsts: Mapping[str, Array] = getattr(step.source, "firsts", {})
            record |= {n: np.array(x[step.begins : step.begins + 1]) for n, x in firsts.items()}
        asked = {n: info for n, info in self.inputs.items() if n not in fed or n in record}
        return fitted(record, step.source, step.record, asked, 1)

    def _first(self, i: int) -> dict[str, Array]:
        """The first sample of a sequence: with zeros where the data do not say how it begins."""
        given = self._given(i)
        missing = [name for name in self.inputs if name not in given]
        zeros = {name: np.zeros(self._lengths(name, given), self.inputs[name].dtype)
                 for name in missing}  # fmt: skip
        return {name: given[name] if name in given else zeros[name] for name in self.inputs}

    def _lengths(self, name: str, given: Sample) -> tuple[int, ...]:
        """The shape of a state, its free axes as long as those of the same name in the data; the
        first one as that of all inputs. Raises DataError where that does not say it."""
        axes = self.model.axes
        known: dict[Any, int] = {
            axis: length
            for other, x in given.items()
            for axis, length in zip(axes[other] or (), x.shape, strict=False)
            if isinstance(axis, str)
        }
        batches = {len(x) if x.ndim else 0 for x in given.values() if x.ndim}
        found: list[int] = []
        for k, axis in enumerate(axes[name] or (None,)):
            length = axis if isinstance(axis, int) and axis > 0 else known.get(axis)
            if length is None and k == 0 and len(batches) == 1 and axes[name]:
                (length,) = batches
            if length is None:
                raise DataError(
                    f"input '{name}', {self.inputs[name]}, is fed back, and its first value has no "
                    "known shape; give it in the data where a sequence begins, such as zeros"
                )
            found.append(length)
        return tuple(found)


class _States:
    """Arrays by sample, in a file that goes with it; for several threads."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="onnxq-states-")
        self._path = Path(self._folder.name) / "states"
        self._path.touch()
        self._at: dict[int, tuple[int, tuple[tuple[str, str, tuple[int, ...]], ...]]] = {}
        self._lock = threading.Lock()

    def write(self, i: int, arrays: Mapping[str, Array]) -> None:
        """Keep the arrays of sample i."""
        form = tuple((name, x.dtype.str, x.shape) for name, x in arrays.items())
        with self._lock, open(self._path, "ab") as file:
            start = file.tell()
            for x in arrays.values():
                file.write(np.ascontiguousarray(x).tobytes())
            self._at[i] = start, form

    def read(self, i: int) -> dict[str, Array]:
        """The arrays of sample i."""
        start, form = self._at[i]
        found = {}
        with open(self._path, "rb") as file:
            file.seek(start)
            for name, dtype, shape in form:
                x = np.empty(shape, dtype)
                file.readinto(x.reshape(-1).view(np.uint8).data)
                found[name] = x
        return found
