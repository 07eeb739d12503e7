"""Weights that stay in files: mapped into memory, and named by file in a protobuf message.

A model over 2 GB has its weights beside it. Here they never enter a message: a constant holds a
`Stored`, the exported tensor says where its bytes are (by absolute path), ONNX Runtime maps the
same file, and saving copies from the mapping. Large weights that a pass made anew go to a scratch
file and are the same from then on, so that a graph takes little more memory than its nodes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx_graphsurgeon.ir.tensor import LazyValues

from onnxq.arrays import Array
from onnxq.model.located import KINDS, LARGE, append, entries, is_located, put
from onnxq.model.mapped import MappedFile, check_unchanged, map_file, release

Constants = Iterable[Any]  # gs.Constant

SCRATCH_BYTES = 512 << 20  # weights in memory beyond this go to a scratch file
SHARED_BYTES = 8 << 20  # the same of a model that many sessions are made of: a copy each is slower

_FRESH: ContextVar[_Fresh | None] = ContextVar("fresh", default=None)


class Stored(LazyValues):  # type: ignore[misc]  # onnx-graphsurgeon has no type hints
    """Values of a constant, in a mapped file."""

    def __init__(self, file: MappedFile, offset: int, shape: tuple[int, ...], dtype: Any) -> None:
        """`file` comes from `map_file`."""
        self.file, self.offset, self.shape, self.dtype = file, offset, shape, np.dtype(dtype)
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def path(self) -> Path:
        """The file's absolute path."""
        return self.file.path

    @property
    def tensor(self) -> onnx.TensorProto:
        """A tensor that names the file; made anew, for whoever takes it gives it a name.

        Raises ModelError where another file has taken its place, which would be read for it.
        """
        check_unchanged(self.file, replaced=True)
        tensor = onnx.TensorProto()
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        tensor.dims.extend(self.shape)
        put(tensor, str(self.path), self.offset, self.nbytes)
        return tensor

    def load(self) -> Array:
        """The values, mapped; pages are read when they are touched.

        Raises ModelError where the file was written to since it was opened.
        """
        check_unchanged(self.file)
        values: Any = self.file[self.offset : self.offset + self.nbytes]
        values = values.view(self.dtype).reshape(self.shape)
        values.stored = self  # no view of it inherits this
        return np.asanyarray(values)


def attach(constants: Constants) -> None:
    """Let constants whose tensors name files hold `Stored` values."""
    for constant in constants:
        lazy = constant._values
        if type(lazy) is LazyValues and is_located(lazy.tensor):
            named = entries(lazy.tensor)
            file = map_file(Path(named["location"]))
            shape = tuple(lazy.tensor.dims)
            constant._values = Stored(file, int(named["offset"]), shape, lazy.dtype)
            constant.data_location = None


def unload(constants: Constants) -> None:
    """Let constants that were read from their files hold `Stored` values again."""
    for constant in constants:
        if (stored := getattr(constant._values, "stored", None)) is not None:
            constant._values = stored


def share(constants: Constants) -> int:
    """Write large values to a scratch file that all who copy or run a model then share, if they are
    many; returns how many bytes. What was read with a model's message no longer holds it."""
    held = list(constants)
    fresh = [c for c in held if not isinstance(c._values, Stored)]
    if sum(c._values.nbytes for c in fresh if c._values.nbytes >= LARGE) < SHARED_BYTES:
        return 0
    for constant in fresh:
        if type(constant._values) is LazyValues and _is_plain(constant._values):
            constant._values = constant._values.load()
    return spill(fresh, (), SHARED_BYTES)


def _is_plain(lazy: Any) -> bool:
    """Whether values that are read when they are asked for are of a type that a file can hold."""
    return not isinstance(lazy.dtype, int) and np.dtype(lazy.dtype).kind in KINDS


def spill(constants: Constants, given: Constants, most: int | None = None) -> int:
    """Write large values in memory to a scratch file, if they are more than `most` bytes; returns
    how many bytes.

    Those of `given` constants stay in memory. The file goes when the last of its values does.
    """
    most = SCRATCH_BYTES if most is None else most
    held = {id(constant._values) for constant in given}
    large: dict[int, list[Any]] = {}
    arrays: dict[int, Array] = {}
    for constant in constants:
        values = constant._values
        if id(values) in held or type(values) is not np.ndarray:
            continue
        if values.nbytes >= LARGE and values.dtype.kind in KINDS:
            large.setdefault(id(values), []).append(constant)
            arrays[id(values)] = values
    if sum(a.nbytes for a in arrays.values()) < most:
        return 0
    folder = tempfile.TemporaryDirectory(prefix="onnxq-weights-")
    path = Path(folder.name) / "weights.data"
    offsets = {}
    with open(path, "wb") as out:
        for key, values in arrays.items():
            offsets[key] = append(out, values)
    file = map_file(path)
    file.keep = folder
    for key, same in large.items():
        values = arrays.pop(key)
        for constant in same:
            constant._values = Stored(file, offsets[key], values.shape, values.dtype)
    return path.stat().st_size


@dataclass
class _Fresh:
    """Constants that passes made and that are still in memory."""

    constants: list[Any] = field(default_factory=list)
    bytes: int = 0


@contextmanager
def spilling() -> Iterator[None]:
    """Within it constants that are `noted` go to scratch files, half a gigabyte at a time."""
    token = _FRESH.set(_Fresh())
    try:
        yield
    finally:
        _FRESH.reset(token)


def noted(constant: Any) -> Any:
    """The constant, made by a pass: it need not stay in memory."""
    fresh = _FRESH.get()
    if fresh is not None:
        fresh.constants.append(constant)
        fresh.bytes += constant._values.nbytes
        if fresh.bytes >= SCRATCH_BYTES:
            spill(fresh.constants, ())
            _FRESH.set(_Fresh())
            release()
    return constant
