"""Weights that stay in files: mapped into memory, and named by file in a protobuf message.

A model over 2 GB has its weights beside it. Here they never enter a message: a constant holds a
`Stored`, the exported tensor says where its bytes are (by absolute path), ONNX Runtime maps the
same file, and saving copies from the mapping. Large weights that a pass made anew go to a scratch
file and are the same from then on, so that a graph takes little more memory than its nodes.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data
from onnx_graphsurgeon.ir.tensor import LazyValues

from onnxq.arrays import Array
from onnxq.model.mapped import MappedFile, check_unchanged, map_file, release

Constants = Iterable[Any]  # gs.Constant

SCRATCH_BYTES = 512 << 20  # weights in memory beyond this go to a scratch file ...
LARGE = 64 << 10  # ... those of at least this size
SHARED_BYTES = 8 << 20  # the same of a model that many sessions are made of: a copy each is slower
SMALL = 1024  # bytes: what is no larger is read, as shapes are computed from it
ALIGNMENT = 64  # bytes; what vector instructions like
KINDS = "fiu"  # NumPy's own types, whose bytes are the file's

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
        _place(tensor, str(self.path), self.offset, self.nbytes)
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


def locate(model: onnx.ModelProto, folder: Path) -> None:
    """Let the main graph's external tensors name their files by absolute path; the rest, small, of
    types that NumPy does not have or that a subgraph reads, is loaded into `model`.

    The files are those that `external.files_beside` lets pass. Raises ValueError, OSError or
    onnx's ValidationError for data that is not whole or not there.
    """
    external = [t for t in model.graph.initializer if uses_external_data(t)]
    inner = set(_read_within(model.graph)) if external else set()
    located = []
    for tensor in external:
        place = None if tensor.name in inner else _range_of(tensor, folder)
        if place is not None:
            _place(tensor, *place)
            located.append(tensor)
    for tensor in located:  # out of the way of the loader
        tensor.data_location = onnx.TensorProto.DEFAULT
    onnx.external_data_helper.load_external_data_for_model(model, str(folder))
    for tensor in located:
        tensor.data_location = onnx.TensorProto.EXTERNAL


def _read_within(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that the bodies of its nodes read or hand on."""
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from (name for inner in body.node for name in inner.input)
                yield from (value.name for value in body.output)
                yield from _read_within(body)


def _range_of(tensor: onnx.TensorProto, folder: Path) -> tuple[str, int, int] | None:
    """File, offset and length of a tensor's data; None where onnx's loader is to judge it."""
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    entries = {entry.key: entry.value for entry in tensor.external_data}
    length = int(np.prod(tensor.dims, dtype=np.int64)) * dtype.itemsize
    offset, stated = entries.get("offset", "0"), entries.get("length", str(length))
    if dtype.kind not in KINDS or length <= SMALL:
        return None
    if not offset.isdecimal() or stated != str(length):
        return None
    file = folder / entries.get("location", "")
    if file.stat().st_size < int(offset) + length:
        return None
    return str(file.resolve()), int(offset), length


def is_located(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's data is in a file named by absolute path."""
    return uses_external_data(tensor) and Path(_entries(tensor).get("location", "")).is_absolute()


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _place(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def attach(constants: Constants) -> None:
    """Let constants whose tensors name files hold `Stored` values."""
    for constant in constants:
        lazy = constant._values
        if type(lazy) is LazyValues and is_located(lazy.tensor):
            entries = _entries(lazy.tensor)
            file = map_file(Path(entries["location"]))
            shape = tuple(lazy.tensor.dims)
            constant._values = Stored(file, int(entries["offset"]), shape, lazy.dtype)
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


class Output(Protocol):
    """What bytes are written to."""

    def tell(self) -> int: ...
    def write(self, data: Any, /) -> object: ...


def append(out: Output, values: Array) -> int:
    """Write an array at the next aligned place of an open file; returns that place."""
    out.write(b"\0" * (-out.tell() % ALIGNMENT))
    place = out.tell()
    flat = np.ascontiguousarray(values).reshape(-1)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    out.write(little.view(np.uint8).data)
    return place


def bytes_of(tensor: onnx.TensorProto) -> Array:
    """The bytes of a tensor that is located or has raw data, uint8; mapped in the former case."""
    if not is_located(tensor):
        return np.frombuffer(tensor.raw_data, np.uint8)
    entries = _entries(tensor)
    start = int(entries["offset"])
    data = map_file(Path(entries["location"]))[start : start + int(entries["length"])]
    return data.view(np.ndarray)


def fill(model: onnx.ModelProto) -> None:
    """Take the data of located tensors into the message."""
    for tensor in located(model):
        values = bytes_of(tensor).tobytes()
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = values


def located(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The initializers of the main graph whose data is in files."""
    return (tensor for tensor in model.graph.initializer if is_located(tensor))


class Digest:
    """SHA-256 of what is written to it as to a file."""

    def __init__(self) -> None:
        self._sha, self._size = hashlib.sha256(), 0

    def tell(self) -> int:
        """How many bytes were written."""
        return self._size

    def write(self, data: Any, /) -> None:
        self._sha.update(data)
        self._size += len(data)

    def hex(self) -> str:
        """The digest, 64 hex digits."""
        return self._sha.hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(tensors: Iterable[onnx.TensorProto], out: Output) -> list[int]:
    """Write the data of tensors, one by one; returns where each begins."""
    return [append(out, bytes_of(tensor)) for tensor in tensors]


def place(tensors: Iterable[onnx.TensorProto], location: str, places: Iterable[int]) -> None:
    """Let tensors, written by `write`, name the file `location`."""
    for tensor, start in zip(tensors, places, strict=True):
        _place(tensor, location, start, bytes_of(tensor).size)


def is_large(tensor: onnx.TensorProto, least: int) -> bool:
    """Whether a tensor's data is in a file, or has `least` bytes or more."""
    return is_located(tensor) or len(tensor.raw_data) >= least


def serialize(model: onnx.ModelProto, data: Path) -> tuple[bytes, str]:
    """The bytes of a model without large weights, and the folder that it names their files from.

    Those in its message are written to the file `data`; `model` is left alone.
    """
    shell = onnx.ModelProto()
    _copy(model, shell, but="graph")
    _copy(model.graph, shell.graph, but="initializer")
    with open(data, "wb") as out:
        for tensor in model.graph.initializer:
            fresh = shell.graph.initializer.add()
            if not is_located(tensor) and len(tensor.raw_data) >= LARGE:
                _copy(tensor, fresh, but="raw_data")
                values = bytes_of(tensor)
                _place(fresh, str(data.resolve()), append(out, values), values.size)
            else:
                fresh.CopyFrom(tensor)
    root = _common([_entries(tensor)["location"] for tensor in located(shell)], data)
    for entry in (e for t in located(shell) for e in t.external_data if e.key == "location"):
        entry.value = os.path.relpath(entry.value, root)
    return shell.SerializeToString(), root


def _common(files: list[str], data: Path) -> str:
    return os.path.commonpath([str(data.resolve().parent), *map(os.path.dirname, files)])


def _copy(message: Any, into: Any, but: str) -> None:
    """Copy every field of a message but one."""
    for entry, value in message.ListFields():
        if entry.name == but:
            continue
        if hasattr(value, "MergeFrom"):
            getattr(into, entry.name).MergeFrom(value)
        else:
            setattr(into, entry.name, value)
