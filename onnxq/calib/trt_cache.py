"""Calibration caches of TensorRT up to version 10, read as ranges, and ranges written as such.

    TRT-8601-EntropyCalibration2
    images: 3c010a14
    /model.0/act/Mul_output_0: 3d9c2b31

A line a tensor: its name, and the bits of the float32 scale in hex, the high byte first; the range
is 127 times the scale. Lines of `NAME AMAX` in decimal, as ONNX Runtime's quantizer writes for its
TensorRT provider, are read too. TensorRT names what it keeps after fusion, so a tensor of a plan
may stand in the cache by the name of another one that holds the same values.
"""

from __future__ import annotations

import math
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxq.calib.ranges import Range, Ranges
from onnxq.errors import DataError
from onnxq.files import write_text
from onnxq.model.flow import SAME
from onnxq.model.graph import Graph, within

STEPS = 127  # of an INT8 scale: amax = 127 * scale
HEADER = "TRT-8601-EntropyCalibration2"
LARGEST = 64 << 20  # bytes of a cache
MOVED = (*SAME, "Dropout", "Cast")


@dataclass(frozen=True)
class Cache:
    """amax: tensor -> range. header: of the file, "" where it has none."""

    amax: Mapping[str, float]
    header: str
    path: Path


@dataclass(frozen=True)
class Mapped:
    """Ranges of a plan's tensors out of a cache.

    names: tensor -> the name that it has in the cache, where that is another. missing: tensors of
    the plan that the cache does not have. unused: names in it that the plan does not ask for.
    """

    ranges: Ranges
    names: Mapping[str, str]
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_cache(path: str | Path) -> Cache:
    """A calibration cache; raises DataError, which names the line, for any other file."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no calibration cache at '{path}'")
    if path.stat().st_size > LARGEST:
        raise DataError(f"'{path}' is larger than a calibration cache ever is; is it another file?")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        raise DataError(f"'{path}' is not a calibration cache: it is not text") from e
    header = lines[0] if lines and lines[0].startswith("TRT-") else ""
    found: dict[str, float] = {}
    for number, text in enumerate(lines[bool(header) :], 1 + bool(header)):
        if text.strip():
            name, amax = _entry(path, number, text)
            if found.setdefault(name, amax) != amax:
                raise DataError(f"'{path}' line {number}: '{name}' stands there twice, with two "
                                "scales; leave one of them")  # fmt: skip
    if not found:
        raise DataError(f"'{path}' holds no tensor; TensorRT writes a line for each")
    return Cache(found, header, path)


def _entry(path: Path, number: int, text: str) -> tuple[str, float]:
    if hexed := re.fullmatch(r"(.+): ?([0-9a-fA-F]{8})\s*", text):
        amax = STEPS * struct.unpack(">f", bytes.fromhex(hexed[2]))[0]
        name = hexed[1]
    else:
        name, _, figure = text.strip().rpartition(" ")
        try:
            amax = float(figure)
        except ValueError:
            amax = math.nan
    if not name or not 0 <= amax < math.inf:
        raise DataError(f"'{path}' line {number} is not an entry of a calibration cache: "
                        f"'{text[:60]}'; expected 'NAME: HEX' or 'NAME AMAX'")  # fmt: skip
    return name, amax


def mapped(cache: Cache, graph: Graph, tensors: Iterable[str], model: str) -> Mapped:
    """The ranges of `tensors`, which a plan needs, out of a cache.

    graph: the model as it is in its file, in which tensors that hold the same values are found.
    model: the hash of that file.
    """
    alike, spelled = _alike(graph), _by_spelling(cache.amax)
    method = f"cache('{cache.path.name}')"
    found, names, missing = {}, {}, []
    for tensor in tensors:
        name = _name_of(tensor, cache.amax, alike, spelled)
        if name is None:
            missing.append(tensor)
            continue
        found[tensor] = Range(cache.amax[name], method, math.nan, math.nan)
        if name != tensor:
            names[tensor] = name
    used = {names.get(tensor, tensor) for tensor in found}
    unused = tuple(name for name in cache.amax if name not in used)
    return Mapped(Ranges(model, found), names, tuple(missing), unused)


def save_cache(ranges: Ranges, path: str | Path) -> None:
    """Write ranges as a calibration cache, whole or not at all. Scales are amax / 127 in float32; a
    tensor that was always zero has no scale and is left out."""
    lines = [HEADER]
    for name, found in ranges.tensors.items():
        bits = struct.pack(">f", found.amax / STEPS)
        if struct.unpack(">f", bits)[0] > 0:
            lines.append(f"{name}: {bits.hex()}")
    write_text(Path(path), "\n".join(lines) + "\n")


def _name_of(
    tensor: str,
    amax: Mapping[str, float],
    alike: Mapping[str, list[str]],
    spelled: Mapping[str, list[str]],
) -> str | None:
    """The name of a tensor in a cache: its own, its own spelled otherwise, or that of one that
    holds the same values."""
    name: str
    for name in (tensor, *alike.get(tensor, [])):
        if name in amax:
            return name
        others = spelled.get(_spelling(name), [])
        if len(others) == 1:
            return others[0]
    return None


def _alike(graph: Graph) -> dict[str, list[str]]:
    """Tensor -> all that hold the same values, itself among them."""
    groups: dict[str, list[str]] = {}
    for node in within(graph.nodes):
        if node.op in MOVED and node.inputs and node.outputs:
            a, b = node.inputs[0].name, node.outputs[0].name
            joined = groups.setdefault(a, [a])
            if (other := groups.get(b, [b])) is not joined:
                joined.extend(other)
            for name in other:
                groups[name] = joined
    return groups


def _by_spelling(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[_spelling(name)].append(name)
    return found


def _spelling(name: str) -> str:
    """A name as tools agree on it: they write `/`, `.` and `:` in different ways."""
    return re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").lower()
