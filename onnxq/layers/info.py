"""The layers of an engine, as `trtexec --exportLayerInfo` and the engine inspector write them.

TensorRT 8.x to 11.x write {"Layers": [...], "Bindings": [...]}. With
`--profilingVerbosity=detailed` a layer is an object with its tensors; without, its name alone. A
list of such objects is read too, and one a line; in which files, see `documents`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxq.errors import OnnxqError
from onnxq.layers.documents import read_document
from onnxq.layers.names import numbered

DETAILED = "--profilingVerbosity=detailed"
TYPES = (  # in a description of a tensor -> its type; the first that fits
    (r"fp8|e4m3", "fp8"), (r"fp4|e2m1", "fp4"), (r"bf16|bfloat16", "bf16"),
    (r"fp16|half|float16", "fp16"), (r"fp32|float32|\bfloat\b", "fp32"), (r"uint8", "uint8"),
    (r"int8", "int8"), (r"int4", "int4"), (r"int64", "int64"), (r"int32", "int32"),
    (r"bool", "bool"),
)  # fmt: skip
FLOATS = ("fp32", "fp16", "bf16")
LOW = ("int8", "fp8", "int4", "fp4")
BITS = {"fp32": 32, "int32": 32, "int64": 64, "fp16": 16, "bf16": 16, "int4": 4, "fp4": 4}
COUNTS = {"two": 2, "four": 4, "eight": 8, "sixteen": 16, "thirty-two": 32, "sixty-four": 64}


@dataclass(frozen=True)
class Port:
    """A tensor that a layer reads or writes. shape: () where it is not told. type: "int8", ..., or
    "?". layout: as TensorRT describes it, shortened."""

    name: str
    shape: tuple[int, ...]
    type: str
    layout: str

    @property
    def bytes(self) -> int:
        """How many it takes; 0 where the shape is not told."""
        known = self.shape and all(n >= 0 for n in self.shape)
        return math.prod(self.shape) * BITS.get(self.type, 8) // 8 if known else 0


@dataclass(frozen=True)
class Layer:
    """A layer of an engine.

    kind: TensorRT's `LayerType`. weights: their type, "" without any. origin: "QDQ" or "REFORMAT"
    of a copy, "" otherwise. geometry: what tells weighted layers apart without names.
    """

    name: str
    kind: str = ""
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    weights: str = ""
    origin: str = ""
    metadata: str = ""
    tactic: str = ""
    geometry: tuple[object, ...] = ()

    @property
    def weighted(self) -> bool:
        """Whether it multiplies by weights."""
        return bool(self.weights) or bool(
            re.search(r"conv|gemm|matrixmultiply|fully", self.kind, re.I)
        )

    @property
    def copies(self) -> bool:
        """Whether it only changes the type or the layout of a tensor."""
        return self.kind in ("Reformat", "NoOp") and len(self.inputs) == len(self.outputs) == 1

    @property
    def precision(self) -> str:
        """What it computes in: the type of what it multiplies; "mixed" or "?" where it cannot be
        told."""
        types = [p.type for p in self.inputs if p.type in (*FLOATS, *LOW)]
        if self.weighted:
            return types[0] if types else "?"
        found = set(types) or {p.type for p in self.outputs if p.type in (*FLOATS, *LOW)}
        return found.pop() if len(found) == 1 else "mixed" if found else "?"


@dataclass(frozen=True)
class LayerInfo:
    """The layers of an engine in the order in which they run. detailed: whether their tensors are
    told."""

    layers: tuple[Layer, ...]
    bindings: tuple[str, ...] = ()
    detailed: bool = True
    path: Path = field(default=Path(), compare=False)


def load_layers(path: str | Path) -> LayerInfo:
    """The layers of an engine from a file; raises OnnxqError for any other file."""
    path = Path(path)
    document = read_document(path, _lists_layers, _is_layer)
    listed: object = document
    bindings: Sequence[object] = ()
    if isinstance(document, Mapping):
        listed, bindings = document.get("Layers"), document.get("Bindings") or ()
    if not isinstance(listed, list) or not listed:
        raise _other(path, document)
    if all(isinstance(layer, str) for layer in listed):
        return LayerInfo(tuple(Layer(n) for n in listed), _texts(bindings), False, path)
    if _is_profile(listed) or not all(map(_is_layer, listed)):
        raise _other(path, document)
    try:
        return LayerInfo(tuple(_layers(listed)), _texts(bindings), True, path)
    except (TypeError, ValueError, LookupError, AttributeError) as e:
        raise OnnxqError(f"'{path}' has a layer that TensorRT would not write ({e})") from e


def _other(path: Path, document: object) -> OnnxqError:
    if isinstance(document, list) and _is_profile(document):
        return OnnxqError(f"'{path}' is a profile; give it as --profile, and the file of trtexec "
                          f"--exportLayerInfo as LAYERS")  # fmt: skip
    return OnnxqError(f"'{path}' lists no layers of an engine; write it by trtexec "
                      f"--exportLayerInfo=FILE {DETAILED}")  # fmt: skip


def _is_profile(listed: Sequence[object]) -> bool:
    return any(isinstance(x, Mapping) and ("averageMs" in x or "timeMs" in x) for x in listed)


def _lists_layers(document: object) -> bool:
    """Whether a document is all layers of an engine."""
    listed = document.get("Layers") if isinstance(document, Mapping) else document
    return isinstance(listed, list) and bool(listed) and all(map(_is_layer, listed))


def _is_layer(entry: object) -> bool:
    """Whether it is a layer, with its tensors or by its name alone."""
    if isinstance(entry, str):
        return True
    if not isinstance(entry, Mapping) or not {"Name", "LayerType", "Inputs"} & entry.keys():
        return False
    return entry.get("Name") is None or isinstance(entry["Name"], str)


def _layers(listed: Sequence[Any]) -> Iterator[Layer]:
    """The layers, those without a name numbered among themselves."""
    unnamed = 0
    for entry in listed:
        layer = Layer(entry) if isinstance(entry, str) else _layer(entry)
        if not layer.name.strip():
            layer = replace(layer, name=numbered(unnamed))
            unnamed += 1
        yield layer


def _texts(values: Sequence[object]) -> tuple[str, ...]:
    return tuple(str(value) for value in values) if isinstance(values, list) else ()


def _layer(said: Mapping[str, Any]) -> Layer:
    weights = said.get("Weights")
    ports = [tuple(_port(p) for p in said.get(side) or ()) for side in ("Inputs", "Outputs")]
    inputs, outputs = ports
    counted = weights.get("Count") if isinstance(weights, Mapping) else None
    geometry = (
        said.get("Kernel"), said.get("Stride"), said.get("Groups"), said.get("OutMaps"),
        inputs[0].shape if inputs else (), counted,
    )  # fmt: skip
    return Layer(
        name=said.get("Name") or "",
        kind=str(said.get("LayerType", "")),
        inputs=inputs,
        outputs=outputs,
        weights=type_of(str(weights["Type"])) if isinstance(weights, Mapping) and counted else "",
        origin=str(said.get("Origin", "")),
        metadata=str(said.get("Metadata") or ""),
        tactic=str(said.get("TacticName", "")),
        geometry=tuple(tuple(g) if isinstance(g, list) else g for g in geometry),
    )


def _port(said: Mapping[str, Any]) -> Port:
    described = str(said.get("Format/Datatype") or said.get("Datatype") or "")
    layout = str(said.get("Format") or described)
    dims = said.get("Dimensions")
    shape = tuple(int(n) for n in dims) if isinstance(dims, list) else ()
    return Port(str(said.get("Name", "")), shape, type_of(described), _layout(layout))


def type_of(described: str) -> str:
    """The type in TensorRT's description of a tensor: "int8" of "Row major Int8 format"."""
    text = described.lower()
    return next((name for pattern, name in TYPES if re.search(pattern, text)), "?")


def _layout(described: str) -> str:
    """TensorRT's description of a layout, shortened: "linear", "chw32", "hwc8"."""
    text = described.lower()
    if found := re.match(r"([a-z]+(?:-[a-z]+)?) wide channel vectorized", text):
        return f"chw{COUNTS.get(found[1], found[1])}"
    if found := re.search(r"channel % (\d+)", text):
        return f"hwc{found[1]}"
    if "channel major" in text:
        return "hwc"
    return "linear" if "linear" in text or "row major" in text else "?"
