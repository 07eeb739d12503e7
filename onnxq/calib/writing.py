"""Samples written one after the other, as calibration data: none is held in memory.

folder      a `.npz` a sample; of any shapes
.npz        arrays by name, the first axis of which is the samples
.npy        the same of samples that have one array
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from onnxq.arrays import Array, Sample
from onnxq.errors import DataError
from onnxq.files import LEFT, replacing

FORMS = ("", ".npz", ".npy")


def check_form(out: Path) -> None:
    """Raises DataError for a path that names no form, or a folder that is there."""
    if out.suffix not in FORMS:
        raise DataError(f"'{out}' names no form of data; end it in .npz or .npy, or give the name "
                        "of a folder, without a suffix")  # fmt: skip
    if not out.suffix and out.exists():
        raise DataError(f"'{out}' is there already; name a folder that is not")


def write_samples(samples: Iterable[Sample], out: Path) -> int:
    """Write samples in the form that the suffix of `out` names, whole or not at all; how many.

    Raises DataError for a form that does not hold them.
    """
    check_form(out)
    if out.suffix:
        return _stacked(samples, out)
    count = 0
    with _folder(out) as folder:
        for count, sample in enumerate(samples, 1):
            with zipfile.ZipFile(folder / f"{count - 1:06}.npz", "w") as archive:
                for name, x in sample.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asarray(x), allow_pickle=False)
    return count


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder that has its name in the end, or is gone."""
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        yield made
        made.chmod(0o755)
        made.rename(out)
        LEFT.written[out] = None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _stacked(samples: Iterable[Sample], out: Path) -> int:
    """Write arrays by name, the samples one behind the other."""
    count = 0
    columns: dict[str, _Column] = {}
    with ExitStack() as files:
        for count, sample in enumerate(samples, 1):
            if not columns:
                folder = Path(files.enter_context(tempfile.TemporaryDirectory(dir=out.parent)))
                alike = len({np.shape(x)[:1] for x in sample.values()}) == 1
                for k, (name, x) in enumerate(sample.items()):
                    file = files.enter_context(open(folder / str(k), "w+b"))
                    columns[name] = _Column(name, np.asarray(x), alike, file)
            for name, column in columns.items():
                column.add(np.asarray(sample[name]), count - 1)
        if out.suffix == ".npy" and len(columns) != 1:
            listed = ", ".join(f"'{name}'" for name in columns)
            raise DataError(f"'{out}' holds one array, and the samples have {len(columns)}: "
                            f"{listed}; write .npz")  # fmt: skip
        with replacing(out) as temporary:
            _assemble(columns, count, temporary, out.suffix)
    return count


def _assemble(columns: Mapping[str, _Column], count: int, path: Path, suffix: str) -> None:
    if suffix == ".npy":
        with open(path, "wb") as file:
            next(iter(columns.values())).copy(file, count)
        return
    with zipfile.ZipFile(path, "w") as archive:
        for name, column in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                column.copy(member, count)


class _Column:
    """The values of one name, sample after sample. They lie along their first axis where that is
    the batch: 1, or the same of all arrays; else along one more, in front."""

    def __init__(self, name: str, first: Array, alike: bool, file: IO[bytes]) -> None:
        self.name, self.first, self.file = name, first, file
        self.along = first.ndim > 0 and (alike or len(first) == 1)

    def add(self, x: Array, i: int) -> None:
        """One more sample; raises DataError for one of another shape or type."""
        if (x.shape, x.dtype) != (self.first.shape, self.first.dtype):
            raise DataError(
                f"'{self.name}' is {x.dtype} {x.shape} in sample {i} and {self.first.dtype} "
                f"{self.first.shape} in the first; write a folder, which has a file a sample"
            )
        self.file.write(np.ascontiguousarray(x).tobytes())

    def copy(self, out: IO[bytes], count: int) -> None:
        """Write the array of all `count` samples as NumPy does."""
        shape = self.first.shape
        whole = (count * shape[0], *shape[1:]) if self.along else (count, *shape)
        descr = np.lib.format.dtype_to_descr(self.first.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": whole}
        np.lib.format.write_array_header_1_0(out, header)
        self.file.seek(0)
        shutil.copyfileobj(self.file, out, 1 << 20)
