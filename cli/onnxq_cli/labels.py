"""Labels from a file, for the samples that are judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxq.errors import DataError
from onnxq_cli.fields import IN, option

if TYPE_CHECKING:
    import numpy as np

    from onnxq.calib.data import Dataset


labels_option = option("--labels", "labels_path", type=IN, section="Scoring",
                       help="Labels for top1: .npy or .npz, one a sample.")  # fmt: skip


def labels_of(path: Path, full: Dataset, judged: Dataset) -> np.ndarray[Any, np.dtype[Any]]:
    """The labels of the samples that are judged, of a file with one for each of `full`."""
    labels = _read(path)
    if not labels.ndim or len(labels) != len(full.rows):
        raise DataError(
            f"'{path}' holds {labels.size} labels, the data {len(full.rows)} samples; "
            "give one label for each sample, in order"
        )
    place = {(id(source), k): i for i, (source, k) in enumerate(full.rows)}
    picked: np.ndarray[Any, np.dtype[Any]] = labels[[place[id(s), k] for s, k in judged.rows]]
    return picked


def _read(path: Path) -> np.ndarray[Any, np.dtype[Any]]:
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
        raise DataError(f"'{path}' holds the arrays {listed}; give a file with the labels alone")
    return next(iter(arrays.values()))
