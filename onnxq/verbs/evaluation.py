"""Which samples are scored, and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnxq.errors import DataError

if TYPE_CHECKING:
    from onnxq.arrays import Array
    from onnxq.calib.data import Dataset


@dataclass(frozen=True)
class Evaluation:
    """What scores are measured on.

    data: samples of their own, as for calibration; none for those that calibrate, or are held out
    of it. samples: so many of them. labels: a .npy or .npz with one a sample, for top1.
    """

    data: Sequence[str] = ()
    samples: int | None = None
    labels: Path | None = None

    def labels_of(self, full: Dataset, judged: Dataset) -> Array | None:
        """The labels of the samples that are judged, of a file with one for each of `full`.

        None without a file; raises DataError for one that does not fit.
        """
        if self.labels is None:
            return None
        labels = _read(self.labels)
        if not labels.ndim or len(labels) != len(full.rows):
            raise DataError(
                f"'{self.labels}' holds {labels.size} labels, the data {len(full.rows)} samples; "
                "give one label for each sample, in order"
            )
        place = {(id(source), k): i for i, (source, k) in enumerate(full.rows)}
        picked: Array = labels[[place[id(s), k] for s, k in judged.rows]]
        return picked


def _read(path: Path) -> Array:
    """The array of a .npy, or the only one of an .npz."""
    from onnxq.calib.data_numpy import is_archive, map_npy, read_npz, read_rows

    if not path.is_file():
        raise DataError(f"no labels at '{path}'; give a .npy with one for each sample")
    if not is_archive(path):
        found = map_npy(path)
        return read_rows(found, 0, len(found))
    arrays = read_npz(path)
    if len(arrays) != 1:
        listed = ", ".join(f"'{name}'" for name in arrays) or "none"
        raise DataError(f"'{path}' holds the arrays {listed}; give a file with only the labels")
    return next(iter(arrays.values()))
