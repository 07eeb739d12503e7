"""Labels from a file, for the samples that are judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxq.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from onnxq.calib.data import Dataset


def labels_of(path: Path, full: Dataset, judged: Dataset) -> np.ndarray[Any, np.dtype[Any]]:
    """The labels of the samples that are judged, of a file with one for each of `full`."""
    from onnxq.calib.data_numpy import map_npy, read_rows

    found = map_npy(path)
    labels = read_rows(found, 0, len(found))
    if not labels.ndim or len(labels) != len(full.rows):
        raise DataError(
            f"'{path}' holds {labels.size} labels, the data {len(full.rows)} samples; "
            "give one label for each sample, in order"
        )
    place = {(id(source), k): i for i, (source, k) in enumerate(full.rows)}
    picked: np.ndarray[Any, np.dtype[Any]] = labels[[place[id(s), k] for s, k in judged.rows]]
    return picked
