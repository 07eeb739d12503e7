"""Give a weight that is used in several ways a copy for each way.

A weight's scales follow its channel axis: 0 for Conv, 1 for ConvTranspose, the output features
for Gemm and MatMul. Consumers that agree on the axis get the same scales and go on sharing the
weight; every other use gets a constant of its own, `<name>.1`, `<name>.2` and so on. A use that
is no weight (an embedding looked up by Gather and multiplied with at the end) keeps the original.
Biases are split for each consumer: they are small, and bias correction changes them one by one.
The copies share one array in memory.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_graphsurgeon as gs

from onnxq.model.geometry import geometry_of
from onnxq.model.graph import WEIGHTED, Graph, Node, Tensor
from onnxq.model.stored import Stored
from onnxq.passes.name_nodes import names_of, new_name

BIASED = ("Conv", "ConvTranspose", "Gemm")


def split_shared(graph: Graph) -> int:
    """Split shared weights and biases; how many copies were made."""
    tensors = graph.tensors()
    taken = names_of(graph)
    mine = {id(node) for node in graph.nodes}
    count = 0
    for name, tensor in tensors.items():
        if not isinstance(tensor, gs.Constant) or len(tensor.outputs) < 2:
            continue
        uses = _uses(tensor, mine)
        for k, use in enumerate(list(uses)[1:], start=1):
            # what stays in its file need not be read for that
            values = tensor._values if isinstance(tensor._values, Stored) else tensor.values
            copied = new_name(f"{name}.{k}", taken)
            copy = gs.Constant(copied, values, export_dtype=tensor.export_dtype)
            for node, i in uses[use]:
                node.inputs[i] = copy
            count += 1
    return count


def _uses(tensor: Tensor, mine: set[int]) -> dict[Hashable, list[tuple[Node, int]]]:
    """The consumers of a constant, grouped by the way they use it; plain uses first."""
    uses: dict[Hashable, list[tuple[Node, int]]] = {"plain": []}
    for node in {id(n): n for n in tensor.outputs}.values():
        for i, t in enumerate(node.inputs):
            if t is tensor:
                use = _use(node, i) if id(node) in mine else "plain"
                uses.setdefault(use, []).append((node, i))
    return {use: places for use, places in uses.items() if places}


def _use(node: Node, i: int) -> Hashable:
    if node.op in BIASED and i == 2:
        return ("bias", id(node))
    if node.op not in WEIGHTED or i > 1:
        return "plain"
    if i == 0:
        return ("left", node.op)
    rank = max(len(node.inputs[1].shape), 1)
    return ("weight", geometry_of(node).outputs % rank)
