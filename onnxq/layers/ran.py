"""What the nodes that write a model's tensors ran in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from onnxq.layers.reading import EngineReading
from onnxq.model.graph import Graph, Tensor, producer

PASSED = frozenset({  # computes nothing: an engine may have no layer for it
    "Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze",
    "Transpose", "Unsqueeze",
})  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """The layers of an engine, read against the graph that it was built from."""

    graph: Graph
    engine: EngineReading

    @cached_property
    def _nodes(self) -> Mapping[str, dict[str, Any]]:
        return self.engine.runs()

    @cached_property
    def _tensors(self) -> Mapping[str, Tensor]:
        found: dict[str, Tensor] = self.graph.tensors()
        return found

    def of(self, tensor: str) -> dict[str, Any] | None:
        """The entry of `EngineReading.runs` of the node that computes a tensor, with its name under
        "node"; None where the layers do not tell."""
        written = self._tensors.get(tensor)
        node = None if written is None else producer(written)
        while node is not None:
            runs = self._nodes.get(node.name)
            if runs is not None and not (node.op in PASSED and runs["precision"] == "?"):
                return {"node": node.name, **runs}
            node = producer(node.inputs[0]) if node.op in PASSED else None
        return None
