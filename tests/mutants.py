"""Damage to files, by seed: what a broken download, a full disk or a careless hand leaves.

`mutant(data, name, rng)` is the bytes of a file with one to three pieces of damage: cut short, bits
and bytes changed, pieces lost, doubled or put in; in text also numbers, words and lines; in ONNX
models also fields, which gets behind the parser: names, types, dimensions, attributes, nodes; in
archives of arrays also members, which gets behind the checksums.
"""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message

Damage = Callable[[bytes, np.random.Generator], bytes]
NUMBERS = ("-1", "0", "1e999", ".nan", "null", "99999999999999999999", "'x'", "[]", "{}", "1.5")
INTEGERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 16, 255, 2**31, 2**40, 2**63 - 1)
FLOATS = (0.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
WORDS = ("", "x", "y", "w", "Conv", "Loop", "Reshape", "Identity", "com.microsoft", "ai.onnx", "/",
         "\n", "é" * 9)  # fmt: skip
TYPES = ("f8", "f2", "i4", "u1", "c8", "U3", "?")
MOST = 64  # bytes of a piece


def mutant(data: bytes, name: str, rng: np.random.Generator) -> bytes:
    """`data`, the content of a file called `name`, with one to three pieces of damage."""
    kinds: tuple[Damage, ...] = BYTES
    if name.endswith((".yaml", ".json")):
        kinds += TEXT * 3
    elif name.endswith(".onnx"):
        kinds += (fields,) * len(BYTES) * 3
    elif name.endswith(".npz"):
        kinds += (member,) * len(BYTES) * 2
    elif name.endswith(".npy"):
        kinds += (values,) * len(BYTES)
    for _ in range(rng.integers(1, 4)):
        data = kinds[rng.integers(len(kinds))](data, rng)
    return data


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The first part of it."""
    return data[: rng.integers(len(data) + 1)]


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bits the other way round."""
    x = np.frombuffer(data, np.uint8).copy()
    for _ in range(rng.integers(1, 9) if x.size else 0):
        x[rng.integers(x.size)] ^= 1 << rng.integers(8)
    return x.tobytes()


def overwrite(data: bytes, rng: np.random.Generator) -> bytes:
    """A piece of zeros, of ones, or of anything, in place of what was there."""
    at, size = rng.integers(len(data) + 1), int(rng.integers(1, MOST))
    piece = (bytes(size), b"\xff" * size, rng.bytes(size))[rng.integers(3)]
    return data[:at] + piece[: len(data) - at] + data[at + size :]


def lose(data: bytes, rng: np.random.Generator) -> bytes:
    """Without a piece."""
    at = rng.integers(len(data) + 1)
    return data[:at] + data[at + rng.integers(1, MOST) :]


def double(data: bytes, rng: np.random.Generator) -> bytes:
    """With a piece of it twice."""
    at = rng.integers(len(data) + 1)
    end = at + rng.integers(1, MOST)
    return data[:end] + data[at:]


def put_in(data: bytes, rng: np.random.Generator) -> bytes:
    """With a piece of noise in it."""
    at = rng.integers(len(data) + 1)
    return data[:at] + rng.bytes(int(rng.integers(1, MOST))) + data[at:]


def number(data: bytes, rng: np.random.Generator) -> bytes:
    """With another number, or what is none, for one of its numbers."""
    return _replaced(data, rb"-?\d[\d.e+-]*", NUMBERS, rng)


def word(data: bytes, rng: np.random.Generator) -> bytes:
    """With another word, or a number, for one of its words."""
    return _replaced(data, rb"[A-Za-z_][\w.]*", (*NUMBERS, *WORDS), rng)


def lines(data: bytes, rng: np.random.Generator) -> bytes:
    """A line lost, doubled or moved."""
    rows = data.splitlines(keepends=True)
    if not rows:
        return data
    i, j = rng.integers(len(rows), size=2)
    row = rows.pop(i) if rng.integers(2) else rows[i]
    if rng.integers(2):
        rows.insert(j, row)
    return b"".join(rows)


def _replaced(
    data: bytes, pattern: bytes, choices: tuple[str, ...], rng: np.random.Generator
) -> bytes:
    found = list(re.finditer(pattern, data))
    if not found:
        return data
    match = found[rng.integers(len(found))]
    new = choices[rng.integers(len(choices))].encode()
    return data[: match.start()] + new + data[match.end() :]


def member(data: bytes, rng: np.random.Generator) -> bytes:
    """An archive with one member damaged, lost or empty, its checksum right; as it is if it is
    none. In what is text in it, text is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception:
        return data
    if not parts:
        return data
    name = sorted(parts)[rng.integers(len(parts))]
    content = parts.pop(name)
    if rng.integers(8):
        text = name.startswith("header")
        kinds = (*BYTES, *(TEXT * 4 if text else (values,) * 6))
        parts[name] = kinds[rng.integers(len(kinds))](content, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for part, inside in parts.items():
            archive.writestr(part, inside)
    return out.getvalue()


def values(data: bytes, rng: np.random.Generator) -> bytes:
    """A .npy file with other numbers, or of another type or shape; as it is if it is none."""
    try:
        x = np.load(io.BytesIO(data), allow_pickle=False).copy()
    except Exception:
        return data
    what = rng.integers(5)
    if what == 0:
        x = x[:-1] if x.ndim and len(x) else x
    elif what == 1:
        x = x.reshape(-1) if rng.integers(2) else x[None]
    elif what == 2:
        with contextlib.suppress(ValueError), np.errstate(all="ignore"):  # text is no number
            x = x.astype(TYPES[rng.integers(len(TYPES))])
    elif x.size:
        new = FLOATS if x.dtype.kind == "f" else INTEGERS
        with np.errstate(all="ignore"):
            drawn = np.array(new[rng.integers(len(new))]).astype(x.dtype)
        x.flat[rng.integers(x.size)] = drawn
    out = io.BytesIO()
    np.save(out, x)
    return out.getvalue()


def fields(data: bytes, rng: np.random.Generator) -> bytes:
    """A model with one field changed, one element lost or doubled; as it is if it is none."""
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:
        return data
    places = list(_places(model))
    if not places:
        return data
    owner, field = places[rng.integers(len(places))]
    try:
        _change(owner, field, rng)
    except (ValueError, TypeError):  # a value that the field cannot hold
        return data
    return model.SerializeToString()


def _places(message: Message) -> Any:
    """(message, field) of everything that is set, large weights as often as anything else."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == field.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _places(inner)


def _change(owner: Message, field: Any, rng: np.random.Generator) -> None:
    value = getattr(owner, field.name)
    if not isinstance(value, Message | str | bytes | int | float):  # repeated
        i, what = int(rng.integers(len(value))), rng.integers(3)
        if what == 0:
            del value[i]
        elif what == 1:
            value.append(value[i])
        elif field.type != field.TYPE_MESSAGE:
            value[i] = _drawn(field, rng)
        else:  # two elements change places
            kept = list(value)
            j = int(rng.integers(len(value)))
            kept[i], kept[j] = kept[j], kept[i]
            kept = [type(v).FromString(v.SerializeToString()) for v in kept]
            del value[:]
            value.extend(kept)
    elif field.type == field.TYPE_MESSAGE or not rng.integers(4):
        owner.ClearField(field.name)
    else:
        setattr(owner, field.name, _drawn(field, rng))


def _drawn(field: Any, rng: np.random.Generator) -> Any:
    if field.type == field.TYPE_STRING:
        return WORDS[rng.integers(len(WORDS))]
    if field.type == field.TYPE_BYTES:
        return rng.bytes(int(rng.integers(MOST)))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return FLOATS[rng.integers(len(FLOATS))]
    return INTEGERS[rng.integers(len(INTEGERS))]


BYTES = (cut, flip, overwrite, lose, double, put_in)
TEXT = (number, word, lines)
