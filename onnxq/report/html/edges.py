"""The edges of the drawing: which node reads from which, in what type, and shapes beside them."""

from __future__ import annotations

from collections.abc import Mapping

from onnxq.inspect.reading import NodeReading, Reading
from onnxq.model.graph import Tensor

Edge = tuple[int, int, str]
SHORT = 6  # letters of a size's name


def edges_of(reading: Reading, place: Mapping[str, int]) -> list[Edge]:
    """(from, to, types): indices of nodes, and the types in which the second reads the first, empty
    where its reads do not name what the first writes."""
    return [
        (place[name], place[node.name], _types(node, name, reading))
        for node in reading.nodes
        for name in node.before
        if name in place
    ]


def _types(node: NodeReading, source: str, reading: Reading) -> str:
    reads = [r for r in node.inputs if reading.writers.get(r.tensor) == source]
    types = [r.type if r.quantized is None else r.quantized.label for r in reads]
    return ", ".join(dict.fromkeys(t for t in types if t != "unknown"))


def shape_text(tensors: list[Tensor]) -> str:
    """`1×64×80×80`, the shape that all of these have; empty where they differ or one is unknown.
    A size is a number, a short name, or `?`."""
    shapes = {_shape(tensor) for tensor in tensors}
    return shapes.pop() if len(shapes) == 1 else ""


def _shape(tensor: Tensor) -> str:
    if tensor.shape is None:
        return ""
    return "×".join(map(_size, tensor.shape)) or "scalar"


def _size(size: int | str | None) -> str:
    if isinstance(size, int):
        return str(size)
    return size if size and size.isidentifier() and len(size) <= SHORT else "?"
