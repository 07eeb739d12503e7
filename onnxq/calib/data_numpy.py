"""NumPy files, of which rows are read when they are asked for; pickles are refused.

A file is mapped for its header and size alone. Its rows are read: a file that is cut short under
a mapping ends the process, where a read only comes back short.
"""

from __future__ import annotations

import lzma
import math
import shutil
import struct
import tempfile
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import DataError
from onnxq.model.mapped import identity_of

SEEN = "seen"  # attribute of a mapped array

# The header of an array is a literal of Python, and Python 3.11 counts how deep those go for all
# threads together: two at once may fail.
PARSING = threading.RLock()
# what NumPy and zipfile raise on damaged files; the header of an array is Python that is parsed
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    RuntimeError,  # encrypted, and, as NotImplementedError, compressed in a way of its own
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def is_archive(path: Path) -> bool:
    """Whether a file is an archive of arrays, as .npz is, whatever its name ends in."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError as e:
        raise unreadable(path, e) from e


def map_npy(path: Path) -> Array:
    """The array of a .npy file, mapped."""
    _refuse_other_files(path)
    try:
        with PARSING:
            x = _seen(np.load(path, mmap_mode="r", allow_pickle=False))
    except UNREADABLE as e:
        raise unreadable(path, e) from e
    refuse_scalar(x, f"'{path}'")
    return x


def map_npz(path: Path) -> tuple[dict[str, Array], object]:
    """Arrays of an archive: stored members are mapped in place, deflated ones extracted once.

    The second value keeps the extracted files alive.
    """
    folder: tempfile.TemporaryDirectory[str] | None = None
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for k, info in enumerate(archive.infolist()):
                if info.compress_type == zipfile.ZIP_STORED:
                    x = _map_member(path, info)
                else:
                    folder = folder or tempfile.TemporaryDirectory(prefix="onnxq-data-")
                    extracted = Path(folder.name) / f"{k}.npy"
                    _refuse_more_than_an_array(archive, info)
                    with archive.open(info) as member, open(extracted, "wb") as out:
                        shutil.copyfileobj(member, out, 1 << 20)
                    x = _seen(np.load(extracted, mmap_mode="r", allow_pickle=False))
                arrays[info.filename.removesuffix(".npy")] = x
    except UNREADABLE as e:
        raise unreadable(path, e) from e
    return arrays, folder


def _refuse_other_files(path: Path) -> None:
    """Raises DataError for what NumPy would take for a pickle, such as text."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as e:
        raise unreadable(path, e) from e
    magic = np.lib.format.MAGIC_PREFIX
    if not magic.startswith(start[: len(magic)]) and not start.startswith(b"\x80"):  # a pickle's
        raise DataError(
            f"'{path}' is not a NumPy file, it begins with {start!r}; write one with np.save(path, "
            "array), first axis = samples"
        )


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an archive, read."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                _refuse_more_than_an_array(archive, info)
        with PARSING, np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except UNREADABLE as e:
        raise unreadable(path, e) from e


def read_rows(x: Array, start: int, end: int) -> Array:
    """Rows of an array, copied; raises DataError where its file changed since it was opened."""
    if not isinstance(x, np.memmap):
        return np.array(x[start:end])
    path, then = Path(x.filename or ""), getattr(x, SEEN)
    changed = DataError(f"'{path}' changed while it was in use; start again")
    try:
        now = identity_of(path)
        if now[:2] != then[:2]:  # the file that is mapped has no name any more: nobody can cut it
            return np.array(x[start:end])
        if now != then:
            raise changed
        if not x.flags.c_contiguous:  # the values of a row are spread over the file
            return np.array(x[start:end])
        rows = np.empty((len(range(*slice(start, end).indices(len(x)))), *x.shape[1:]), x.dtype)
        with open(path, "rb") as file:
            file.seek(x.offset + start * (x.nbytes // len(x)))
            if file.readinto(rows.reshape(-1).view(np.uint8).data) != rows.nbytes:
                raise changed
    except FileNotFoundError:
        return np.array(x[start:end])
    return rows


def _seen(x: Array) -> Array:
    """The array; which file it is of, and in which state, is kept if it is mapped."""
    if isinstance(x, np.memmap):
        setattr(x, SEEN, identity_of(Path(x.filename or "")))
    return x


def unreadable(path: Path, e: Exception) -> DataError:
    """The error for a file that `e` was raised on."""
    reason = str(e)
    if "pickle" in reason or "Python objects" in reason:
        return DataError(
            f"'{path}' holds pickled Python objects, which can run code and are not read; "
            "save arrays of numbers"
        )
    return DataError(f"'{path}' cannot be read or is cut short ({reason}); write it again")


def refuse_scalar(x: Array, where: str) -> None:
    """Raises DataError for an array without a sample axis."""
    if x.ndim == 0:
        raise DataError(f"{where} is a single number; the first axis is the sample axis")


def by_sequence(
    arrays: Mapping[str, Array], fed: Collection[str]
) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """(the arrays with a row a sample, those of inputs that are fed back that have others)."""
    lengths = {len(x) for name, x in arrays.items() if name not in fed}
    firsts = {n: x for n, x in arrays.items() if lengths and n in fed and len(x) not in lengths}
    return {n: x for n, x in arrays.items() if n not in firsts}, firsts


def _refuse_more_than_an_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Raises ValueError for a member that is larger than the array that it holds."""
    with archive.open(info) as member:
        shape, _, dtype = _npy_header(member)
        needed = member.tell() + math.prod(shape) * dtype.itemsize
    if info.file_size > needed and not dtype.hasobject:  # pickles are refused by name
        raise ValueError(f"member '{info.filename}' has {info.file_size} bytes where its array "
                         f"takes {needed}")  # fmt: skip


def _map_member(path: Path, info: zipfile.ZipInfo) -> Array:
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)  # ZIP local header: 30 bytes, then name and extra field
        name_size, extra_size = np.frombuffer(file.read(4), "<u2").tolist()
        file.seek(info.header_offset + 30 + name_size + extra_size)
        shape, fortran, dtype = _npy_header(file)
        if dtype.hasobject:
            raise ValueError("object arrays are pickled")
        order: Any = "F" if fortran else "C"
        if 0 in shape:
            return np.zeros(shape, dtype)
        return _seen(np.memmap(path, dtype, "r", file.tell(), shape, order))


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    major, _ = np.lib.format.read_magic(file)
    with PARSING:
        if major == 1:
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
