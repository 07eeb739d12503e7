"""Which tensors have lengths or places that depend on values, and what to judge in their place.

A NonMaxSuppression keeps a few boxes more or fewer once a model is quantized: its outputs, and all
that is computed from them, cannot be held against the float model's value by value. What it reads
can. The same stands in for the classes that an ArgMax picks. A TopK keeps as many, but where each
lands depends on the values: what only picks and moves behind it has its values in no order that
holds, up to the next product (`ranked` matches rows where outputs are compared as they are).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxq.model.graph import WEIGHTED, Graph, Node, Tensor, constant_of, producer
from onnxq.model.other_types import Other
from onnxq.run.segments import reads

PICKING = ("NonMaxSuppression", "NonZero", "Unique", "Compress")
# Inputs whose values, where they are computed from activations, are lengths of the output.
SIZES: Mapping[str, Collection[int]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "Slice": (1, 2, 4),
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "TopK": (1,),
    "Pad": (1,),
    "Resize": (2, 3),
    "OneHot": (1,),
    "Split": (1,),
}
SHAPES = ("Shape", "Size")
INTO_FIRST = ("ScatterND", "ScatterElements", "Scatter")  # as long as their first input


@dataclass
class _Found:
    """computed: tensors with values from the inputs'. rounded: with values that quantization may
    change, as they are from floats that are computed. varying: whose lengths do. moved: whose
    places do."""

    computed: set[str] = field(default_factory=set)
    rounded: set[str] = field(default_factory=set)
    varying: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)

    def add(self, node: Node) -> None:
        read = [t.name for t in reads(node)]
        varying, moved = self._varies(node, read), self._moves(node, read)
        for tensor in node.outputs:
            if varying:
                self.varying.add(tensor.name)
            if moved:
                self.moved.add(tensor.name)
            if node.op in SHAPES:
                self.rounded |= {tensor.name} if read[0] in self.varying else set()
                continue
            if self.rounded.intersection(read) or (
                _is_float(tensor) and self.computed.intersection(read)
            ):
                self.rounded.add(tensor.name)
            if self.computed.intersection(read):
                self.computed.add(tensor.name)

    def _moves(self, node: Node, read: list[str]) -> bool:
        if node.op in (*SHAPES, *WEIGHTED):
            return False
        if node.op == "TopK" and self.rounded.intersection(read):
            return True
        return bool(self.moved.intersection(read[:1] if node.op in INTO_FIRST else read))

    def _varies(self, node: Node, read: list[str]) -> bool:
        if node.op in SHAPES:
            return False
        if node.op in PICKING and self.rounded.intersection(read):
            return True
        sizes = (node.inputs[i].name for i in SIZES.get(node.op, ()) if i < len(node.inputs))
        if self.rounded.intersection(sizes):
            return True
        return bool(self.varying.intersection(read[:1] if node.op in INTO_FIRST else read))


def varying(graph: Graph) -> set[str]:
    """Names of the tensors whose lengths, or places behind a TopK, quantization may change; nodes
    in topological order."""
    found = _Found(computed={t.name for t in graph.inputs},
                   rounded={t.name for t in graph.inputs if _is_float(t)})  # fmt: skip
    for node in graph.nodes:
        found.add(node)
    return found.varying | found.moved


def stand_ins(tensor: Tensor, varying: Collection[str]) -> list[Tensor]:
    """The float tensors nearest to `tensor` that it is computed from and that can be compared;
    the tensor itself where that can."""
    return list({t.name: t for t in _stand_ins(tensor, varying, set())}.values())


def comparable(outputs: Sequence[Tensor], varying: Collection[str]) -> list[Tensor]:
    """The float outputs, with what stands in for those of varying lengths; where there is none,
    what stands in for the others."""
    outputs = [t for t in outputs if not isinstance(t, Other)]
    floats = [t for t in outputs if t.dtype is None or _is_float(t)]
    found = [s for t in floats for s in (stand_ins(t, varying) if t.name in varying else [t])]
    found = found or [s for t in outputs for s in stand_ins(t, varying)]
    return list({t.name: t for t in found}.values())


def _stand_ins(tensor: Tensor, varying: Collection[str], seen: set[str]) -> Iterator[Tensor]:
    node = producer(tensor)
    if node is None or node.op in SHAPES or tensor.name in seen:
        return
    seen.add(tensor.name)
    if _is_float(tensor) and tensor.name not in varying:
        if constant_of(tensor) is None:
            yield tensor
        return
    for read in reads(node):
        yield from _stand_ins(read, varying, seen)


def _is_float(tensor: Tensor) -> bool:
    kind = tensor.dtype
    return kind is not None and not isinstance(kind, int) and np.dtype(kind).kind == "f"
