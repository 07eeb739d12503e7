"""Tensors of a message that say by absolute path which file their bytes are in: made from what a
model names, read, written to files anew, and taken back into the message.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data

from onnxq.arrays import Array
from onnxq.model.mapped import map_file

LARGE = 64 << 10  # bytes: what is no smaller goes to a file where there is one
SMALL = 1024  # bytes: what is no larger is read, as shapes are computed from it
ALIGNMENT = 64  # bytes; what vector instructions like
KINDS = "fiu"  # NumPy's own types, whose bytes are the file's


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
            put(tensor, *place)
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
    named = entries(tensor)
    length = int(np.prod(tensor.dims, dtype=np.int64)) * dtype.itemsize
    offset, stated = named.get("offset", "0"), named.get("length", str(length))
    if dtype.kind not in KINDS or length <= SMALL:
        return None
    if not offset.isdecimal() or stated != str(length):
        return None
    file = folder / named.get("location", "")
    if file.stat().st_size < int(offset) + length:
        return None
    return str(file.resolve()), int(offset), length


def is_located(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's data is in a file named by absolute path."""
    return uses_external_data(tensor) and Path(entries(tensor).get("location", "")).is_absolute()


def entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """What a tensor says of its file: location, offset, length."""
    return {entry.key: entry.value for entry in tensor.external_data}


def put(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor's data be `length` bytes from `offset` of a file."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


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
    place = entries(tensor)
    start = int(place["offset"])
    data = map_file(Path(place["location"]))[start : start + int(place["length"])]
    return data.view(np.ndarray)


def fill(model: onnx.ModelProto) -> None:
    """Take the data of located tensors into the message."""
    for tensor in in_files(model):
        values = bytes_of(tensor).tobytes()
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = values


def in_files(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
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
        put(tensor, location, start, bytes_of(tensor).size)


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
                put(fresh, str(data.resolve()), append(out, values), values.size)
            else:
                fresh.CopyFrom(tensor)
    root = _common([entries(tensor)["location"] for tensor in in_files(shell)], data)
    for entry in (e for t in in_files(shell) for e in t.external_data if e.key == "location"):
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
