"""A model as one message, written weight by weight: weights that are in files never stand in memory
beside each other, nor beside the bytes of the message.

    message = fields, in the order of their numbers        a field that holds others:
    field   = tag, length, content                         tag = number << 3 | 2

The bytes are those of `SerializeToString`. Source: protobuf's encoding, https://protobuf.dev.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import onnx
from google.protobuf.message import Message

from onnxq.model import mapped
from onnxq.model.located import bytes_of, is_located

Buffer: TypeAlias = bytes | memoryview

GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER


RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER
LAST = 1 << 29  # above every field number


def pieces(model: onnx.ModelProto) -> Iterator[Buffer]:
    """The bytes of a model, in order; what is in files is taken in, a tensor at a time."""
    tensors = model.graph.initializer
    before, after = _some(model.graph, 0, INITIALIZER), _some(model.graph, INITIALIZER + 1, LAST)
    heads = [_head(INITIALIZER, _size(tensor)) for tensor in tensors]
    size = sum(len(head) + _size(tensor) for head, tensor in zip(heads, tensors, strict=True))
    yield _some(model, 0, GRAPH)
    yield _head(GRAPH, len(before) + size + len(after))
    yield before
    for head, tensor in zip(heads, tensors, strict=True):
        yield head
        yield from _content(tensor)
    yield after
    yield _some(model, GRAPH + 1, LAST)


def _some(message: Message, first: int, end: int) -> bytes:
    """The fields of a message with numbers from `first` to before `end`."""
    part = type(message)()
    for field, value in message.ListFields():
        if not first <= field.number < end:
            continue
        if isinstance(value, str | bytes | int | float):
            setattr(part, field.name, value)
        else:
            getattr(part, field.name).MergeFrom(value)
    return part.SerializeToString()


def _head(number: int, length: int) -> bytes:
    """What stands before the content of a field that holds others, or bytes."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _size(tensor: onnx.TensorProto) -> int:
    """How many bytes the tensor takes with its data in it."""
    if not is_located(tensor):
        return tensor.ByteSize()
    length = bytes_of(tensor).nbytes
    return _shell(tensor).ByteSize() + len(_head(RAW_DATA, length)) + length


def _content(tensor: onnx.TensorProto) -> Iterator[Buffer]:
    """The bytes of a tensor with its data in it; what is in a file is handed on as it is mapped."""
    if not is_located(tensor):
        yield tensor.SerializeToString()
        return
    shell, values = _shell(tensor), bytes_of(tensor)
    yield _some(shell, 0, RAW_DATA)
    yield _head(RAW_DATA, values.nbytes)
    yield values.data
    yield _some(shell, RAW_DATA + 1, LAST)
    mapped.release()


def _shell(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A located tensor without its data, and without a word of where that is."""
    made = onnx.TensorProto()
    made.CopyFrom(tensor)
    del made.external_data[:]
    made.data_location = onnx.TensorProto.DEFAULT
    return made
