"""Layers that only change the type or the layout of a tensor, and what causes each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onnxq.layers.info import FLOATS, LOW, Layer, Port
from onnxq.layers.names import COPY, Named

Kind = Literal["quantize", "dequantize", "requantize", "cast", "reformat"]


@dataclass(frozen=True)
class Copy:
    """A kernel that computes nothing.

    tensor: that it changes. before, after: its type and layout. cause: the nodes for whose sake it
    is there: those that read the result, or those whose result it is. ms: None without a profile.
    ends: whether it is an input or an output of the network that is converted.
    """

    layer: str
    kind: Kind
    tensor: str
    before: str
    after: str
    cause: tuple[str, ...]
    ms: float | None
    bytes: int
    ends: bool


def copies_of(
    layers: Sequence[Layer],
    names: Sequence[Named],
    times: Sequence[float | None],
    bindings: Sequence[str] = (),
) -> list[Copy]:
    """The copies among the layers, in the order in which they run; those that take no time, which
    TensorRT lists as NoOp, are none."""
    readers = readers_of(layers)
    own = {port.name for layer in layers for port in layer.outputs}
    found = []
    for layer, said, ms in zip(layers, names, times, strict=True):
        if not layer.copies or layer.kind == "NoOp":
            continue
        (read,), (written,) = layer.inputs, layer.outputs
        output = (m := COPY.fullmatch(layer.name)) is not None and m[1] == "Output"
        behind = [n for i in readers[written.name] for n in names[i].nodes]
        cause = said.beside or tuple(dict.fromkeys(behind)) or said.nodes
        found.append(
            Copy(
                layer.name, _kind(layer, read, written), (written if output else read).name,
                f"{read.type} {read.layout}", f"{written.type} {written.layout}", cause, ms,
                read.bytes + written.bytes,
                read.name not in own or bool({read.name, written.name} & set(bindings)),
            )
        )  # fmt: skip
    return found


def readers_of(layers: Sequence[Layer]) -> Mapping[str, list[int]]:
    """Tensor -> the numbers of the layers that read it."""
    found: dict[str, list[int]] = defaultdict(list)
    for i, layer in enumerate(layers):
        for port in layer.inputs:
            found[port.name].append(i)
    return found


def _kind(layer: Layer, read: Port, written: Port) -> Kind:
    if read.type in LOW and written.type in LOW:
        return "requantize" if layer.origin == "QDQ" else "reformat"
    if written.type in LOW and read.type in FLOATS:
        return "quantize"
    if read.type in LOW and written.type in FLOATS:
        return "dequantize"
    return "reformat" if read.type == written.type else "cast"
