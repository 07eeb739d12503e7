"""Statistics written while they are counted, so that a run that is killed goes on where it was.

The file holds the statistics of the samples counted so far, and the digest of each of them. To go
on, the samples with these digests are left out; adding up is exact, so the end is the same to the
bit, whatever the order of the samples and however often the run was interrupted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onnxq.arrays import Samples
from onnxq.calib.data import digests
from onnxq.calib.stats import Stats, load_unfinished
from onnxq.errors import DataError
from onnxq.files import LEFT

SECONDS, SHARE = 10.0, 0.05  # least between two writes; the share of the time that they may take


@dataclass
class Checkpoint:
    """Where to write, and what an earlier run left there.

    tensors: those that are counted. begun: statistics so far, None without any. done: how often a
    sample with each digest was counted. seconds: least time between two writes.
    """

    path: Path
    model: str
    tensors: Sequence[str]
    begun: Stats | None = None
    done: Counter[str] = field(default_factory=Counter)
    seconds: float = SECONDS
    _next: float = field(default_factory=lambda: time.monotonic() + SECONDS, repr=False)

    @staticmethod
    def open(
        path: str | Path, model: str, tensors: Sequence[str], seconds: float = SECONDS
    ) -> Checkpoint:
        """What is at `path`: an unfinished run to go on with, or nothing.

        A finished file is not gone on with: it will be replaced. Raises DataError where another
        model's run, or one of other tensors, was left unfinished.
        """
        path = Path(path)
        found = Checkpoint(path, model, tuple(tensors), seconds=seconds)
        found._next = time.monotonic() + seconds
        left = load_unfinished(path) if path.exists() else None
        if left is None:
            return found
        stats, digests = left
        if stats.model != model or set(stats.histograms) != set(tensors):
            raise DataError(
                f"'{path}' holds an unfinished calibration of another model, plan or options; "
                "name another file, or delete it to start over"
            )
        LEFT.kept[path] = None
        found.begun, found.done = stats, Counter(digests)
        return found

    def missing(self, data: Samples) -> list[int]:
        """Numbers of the samples that are not counted yet.

        Raises DataError where samples were counted that `data` does not have.
        """
        if not self.done:
            return list(range(len(data)))
        left, todo = self.done.copy(), []
        for i, digest in enumerate(digests(data)):
            if left[digest]:
                left[digest] -= 1
            else:
                todo.append(i)
        if gone := left.total():
            raise DataError(
                f"'{self.path}' holds an unfinished calibration with {gone} samples that the data "
                "does not have; name another file, or delete it to start over"
            )
        return todo

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() >= self._next

    def save(self, stats: Stats, done: Counter[str]) -> None:
        """Write statistics, what was begun with included, and the digests behind them."""
        started = time.monotonic()
        stats.save_unfinished(self.path, done.elements())
        LEFT.kept[self.path] = None
        ended = time.monotonic()
        self._next = ended + max(self.seconds, (ended - started) / SHARE)
