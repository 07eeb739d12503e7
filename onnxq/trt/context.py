"""What the lint rules look at: a graph with its Q/DQ read out, constants computed, types known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from onnxq.model.flow import SAME
from onnxq.model.graph import WEIGHTED, Graph, Node
from onnxq.model.qdq import Qdq, Quantizer, read_qdq
from onnxq.passes.name_axes import Shapes
from onnxq.passes.name_nodes import names_of

MOVES = (*SAME, "MaxPool", "Slice", "Split", "Gather", "Pad")  # run on INT8


@dataclass(frozen=True)
class Context(Qdq):
    """A graph and what every rule asks of it.

    samples: the shapes of the inputs in samples of data, as far as there are any.
    """

    samples: tuple[Shapes, ...] = ()

    @cached_property
    def taken(self) -> set[str]:
        """Names in use; who makes one adds it."""
        return names_of(self.graph)

    def weighted(self) -> Iterator[tuple[Node, list[Quantizer | None]]]:
        """Every weighted op, with the DQ (or None) of its first two inputs."""
        for node in self.nodes:
            if node.op in WEIGHTED and len(node.inputs) > 1:
                yield node, [self.dequantizer(t) for t in node.inputs[:2]]


def context_of(graph: Graph, samples: Iterable[Shapes] = ()) -> Context:
    """The context of a graph, which is left alone."""
    read = read_qdq(graph)
    return Context(graph, read.nodes, read.quantizers, read.types, read.by_node, tuple(samples))


def label(node: Node) -> str:
    """A node's name, or that of its output where it has none."""
    return str(node.name or (node.outputs[0].name if node.outputs else node.op))
