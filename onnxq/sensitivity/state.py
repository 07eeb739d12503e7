"""The sums that are measured so far, in memory and, to be resumed, in a file.

A file is written whole or not at all, at most once a second and at the end, so that a run that is
killed loses a second. It names what was measured: model, plan, ranges, data, options.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import PlanError
from onnxq.files import LEFT, write_text
from onnxq.json_text import to_json
from onnxq.judge.metrics import Sums
from onnxq.saved import FileForm, value_of

FORM = FileForm(
    "onnxq.sensitivity-state", 1, PlanError,
    other="'{path}' holds no sensitivity analysis to resume (kind '{kind}', version {version}); "
    "name another file",
    broken="'{path}' holds no sensitivity analysis to resume ({why}); name another file",
)  # fmt: skip
SUMS = Mapping[str, Mapping[int, Mapping[str, Sums]]]  # toggle -> sample -> scored tensor
SECONDS = 1.0  # between two writes


class State:
    """Toggle -> sample -> scored tensor -> sums."""

    def __init__(self, path: Path | None = None, key: str = "") -> None:
        """Starts with what `path` holds, if it exists; raises PlanError if that is another run's.

        `key` identifies the run.
        """
        self.path, self.key = path, key
        self._sums: dict[str, dict[int, dict[str, Sums]]] = {}
        self._saved = time.monotonic()
        if path is not None:
            LEFT.kept[path] = None
        if path is not None and path.exists():
            self._sums = _load(path, key)

    def has(self, toggle: str, samples: Iterable[int]) -> bool:
        """Whether a toggle is measured for all of these samples."""
        return self._sums.get(toggle, {}).keys() >= set(samples)

    def add(self, toggle: str, sample: int, sums: Mapping[str, Sums]) -> None:
        """Keep the sums of a sample under a toggle."""
        self._sums.setdefault(toggle, {})[sample] = dict(sums)

    def sums(self) -> Mapping[str, Mapping[int, Mapping[str, Sums]]]:
        """Everything that is measured."""
        return self._sums

    def totals(self, toggle: str, samples: Iterable[int]) -> dict[str, Array]:
        """Scored tensor -> sums [samples, K] of these samples, in their order."""
        of = self._sums[toggle]
        rows = [of[i] for i in samples]
        return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}

    def save_soon(self) -> None:
        """Write the file unless that was done just now."""
        if time.monotonic() - self._saved >= SECONDS:
            self.save()

    def save(self) -> None:
        """Write the file, if there is one to write."""
        if self.path is None:
            return
        document = {**FORM.head(), "key": self.key, "sums": self._sums}
        write_text(self.path, to_json(document, indent=None))
        self._saved = time.monotonic()


def _load(path: Path, key: str) -> dict[str, dict[int, dict[str, Sums]]]:
    sums: dict[str, dict[int, dict[str, Sums]]]
    document, sums = FORM.load(path, lambda document: (document, value_of(SUMS, document["sums"])))
    if document["key"] != key:
        raise PlanError(
            f"'{path}' was begun with another model, plan, data or options; name another file, or "
            "delete it to start over"
        )
    return sums
