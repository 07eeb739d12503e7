"""What an engine makes of the Q/DQ in a model: meant against real, node by node."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from onnxq.layers.meant import meant
from onnxq.model.graph import Graph, Node, Tensor, constant_of
from onnxq.model.qdq import dequantizer
from onnxq.trt.engine import Engine, Precision, coverage


@dataclass(frozen=True)
class Verdict:
    """meant: weighted node -> what its Q/DQ asks for. real: the same nodes -> what runs."""

    meant: dict[str, str]
    real: dict[str, Precision]
    engine: Engine

    @property
    def missed(self) -> list[str]:
        """Nodes that run in another precision than meant; unknown ones are not counted."""
        return [n for n, p in self.meant.items() if self.real[n] not in (p, "unknown", "folded")]

    @property
    def covered(self) -> int:
        """How many nodes run as meant."""
        return sum(self.real[n] == p for n, p in self.meant.items())

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        kernel_of = {layer: k for k in self.engine.kernels if k.is_product for layer in k.layers}
        return {
            "readable": self.engine.readable,
            "reason": self.engine.reason,
            "kernels": len(self.engine.kernels),
            "quantize_kernels": self.engine.quantize_kernels,
            "move_kernels": self.engine.move_kernels,
            "bytes_moved": self.engine.traffic,
            "meant": len(self.meant),
            "covered": self.covered,
            "nodes": {
                name: {
                    "meant": meant,
                    "real": self.real[name],
                    "kernel": kernel_of[name].kind if name in kernel_of else None,
                    "fused_with": [x for x in kernel_of[name].layers if x != name]
                    if name in kernel_of
                    else [],
                }
                for name, meant in self.meant.items()
            },
        }


def judge(graph: Graph, engine: Engine) -> Verdict:
    """Hold an engine against the Q/DQ of the graph it was built from.

    Of nodes that do the same to the same tensors the engine keeps one: the others run as it does.
    """
    asked = meant(graph)
    real = coverage(engine, asked)
    products = {layer for k in engine.kernels if k.is_product for layer in k.layers}
    kept = {_work(n): n.name for n in graph.nodes if n.name in asked and n.name in products}
    for node in graph.nodes:
        if node.name in asked and node.name not in products:
            real[node.name] = real[kept.get(_work(node), node.name)]
    return Verdict(asked, real, engine)


def _work(node: Node) -> Hashable:
    """The product of a node: equal for nodes that multiply the same, whatever their biases."""
    return node.op, repr(sorted(node.attrs.items())), *map(_read, node.inputs[:2])


def _read(tensor: Tensor) -> Hashable:
    """What is read: the bytes of a constant, dequantized or not; else the tensor itself."""
    values = constant_of(tensor)
    if values is not None:
        return values.shape, str(values.dtype), values.tobytes()
    before = dequantizer(tensor)
    if before is not None and constant_of(before.inputs[0]) is not None:
        return tuple(map(_read, before.inputs))
    return id(tensor)
