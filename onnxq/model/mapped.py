"""Files mapped into memory, without a descriptor kept for each.

Python's own mapping holds a descriptor as long as it lives, and a model with a file for each of its
weights has more of them than a process may have open.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import ModelError

Identity = tuple[int, int, int, int]  # device, inode, time of the last change, size

_OPEN: WeakValueDictionary[tuple[str, Identity], MappedFile] = WeakValueDictionary()
POSIX = os.name == "posix"


class MappedFile(np.ndarray[Any, np.dtype[np.uint8]]):
    """The bytes of a file, mapped, read-only.

    path: the file's absolute path. identity: which file it was, and in which state. keep: whatever
    is to live as long. Views of it have none of these.
    """

    path: Path
    identity: Identity
    keep: object


def identity_of(path: Path) -> Identity:
    """Which file is at a path now, and in which state; raises OSError."""
    return _identity(path.stat())


def map_file(path: Path) -> MappedFile:
    """The bytes of a file, mapped; one mapping for all who ask. Raises OSError."""
    found = path.resolve(strict=True)
    with open(found, "rb") as file:
        identity = _identity(os.fstat(file.fileno()))
        mapped = _OPEN.get((str(found), identity))
        if mapped is None:
            mapped = _map(file.fileno(), identity[-1]).view(MappedFile)
            mapped.path, mapped.identity = found, identity
            _OPEN[str(found), identity] = mapped
    return mapped


def check_unchanged(file: MappedFile, replaced: bool = False) -> None:
    """Raises ModelError where a mapped file was written to since; or `replaced` by another, which
    matters to who opens it by its path."""
    try:
        now: Identity | None = identity_of(file.path)
    except OSError:
        now = None
    other = now is None or now[:2] != file.identity[:2]
    if (other and replaced) or (not other and now != file.identity):
        raise ModelError(f"'{file.path}' changed during the run; start again")


def check_all() -> None:
    """Raises ModelError where any mapped file was written to since."""
    for mapped in list(_OPEN.values()):
        check_unchanged(mapped)


def release() -> None:
    """Give back the memory that mapped files hold; touched again, they are read again."""
    for mapped in list(_OPEN.values()):
        if POSIX and mapped.size and hasattr(mmap, "MADV_DONTNEED"):
            _libc().madvise(mapped.ctypes.data, mapped.size, mmap.MADV_DONTNEED)


def _identity(stat: os.stat_result) -> Identity:
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size


def _map(descriptor: int, size: int) -> Array:
    """The bytes of an open file, mapped; the file may be closed."""
    if not size:
        return np.zeros(0, np.uint8)
    if not POSIX:
        return np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), np.uint8)
    libc = _libc()
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    held = (ctypes.c_ubyte * size).from_address(address)
    # Not at exit: what still reads it then must not find it gone.
    weakref.finalize(held, libc.munmap, address, size).atexit = False
    values: Array = np.frombuffer(memoryview(held), np.uint8)
    values.flags.writeable = False
    return values


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
    )  # fmt: skip
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return libc
