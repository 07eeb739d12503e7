"""The graph as ONNX Runtime runs it, with the observed tensors found in it.

Convolutions run in a blocked layout, NCHWc. Asking for a tensor in the middle puts a reorder
behind it, and cutting there another one; on EfficientNet-Lite0 they take as long as half of the
inference. A histogram does not care about the order of values: so ONNX Runtime optimizes the whole
graph first, with the observed tensors as outputs, and where one of them is the reorder of another
tensor, that other tensor is counted.

A reorder also drops the channels that a block is padded with. They must not be counted, so a tensor
with such channels stays behind its reorder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.model import graph as graphs
from onnxq.model.graph import Graph, Node, Tensor
from onnxq.run import runtime as ort

NCHWC = "com.microsoft.nchwc"
LARGEST = 256 << 20  # bytes of weights: the optimized graph is written and read with them
# What keeps the blocks as they are: the output has the channels of the inputs.
CHANNELWISE = {"Add", "Mul", "Sum", "Relu", "Sigmoid", "Tanh", "QuickGelu", "MaxPool", "Upsample"}
BLOCKED = CHANNELWISE | {"Concat"}  # what the optimizer lets read blocks


@dataclass(frozen=True)
class Layout:
    """graph: optimized, runs with no further optimization. place: observed tensor -> the tensor of
    `graph` that holds its values, in whatever order. session: of the graph it was made from, whose
    outputs are the observed tensors."""

    graph: Graph
    place: Mapping[str, str]
    session: ort.Session


def laid_out(part: Graph, runtime: ort.Runtime) -> Layout | None:
    """How ONNX Runtime runs `part`, whose outputs are the observed tensors; None where that is of
    no use: no convolution, another provider, weights too large to be written once more; or where
    convolutions in bodies are laid out too, whose tensors get the names of those outside.

    Raises whatever ONNX Runtime and onnx-graphsurgeon stumble over on the way.
    """
    convolutions = any(node.op == "Conv" for node in part.nodes)
    if (
        not convolutions
        or ort.resolved(runtime.provider) != "cpu"
        or runtime.ort_extension is not None
    ):
        return None
    if graphs.weight_bytes(part) > LARGEST:
        return None
    model, session = ort.optimized(graphs.to_proto(part), runtime)
    graph = graphs.from_proto(model)
    nested = (node for body in graphs.scopes(graph)[1:] for node in body.nodes)
    if not any(node.domain == NCHWC for node in graph.nodes) or any(
        node.domain == NCHWC for node in nested
    ):
        return None
    # ONNX Runtime lists every domain that it knows, those of another model's custom ops as well.
    used = {node.domain or "" for node in graph.nodes}
    graph.import_domains = [d for d in graph.import_domains or () if d.domain in used]
    _type_tokens(graph)
    tensors = graph.tensors()
    place = {t.name: t.name for t in graph.outputs}
    if not all(tensors[name].inputs for name in place):
        return None  # one is constant
    for node in [n for n in graph.nodes if n.op == "ReorderOutput"]:
        out = node.outputs[0]
        if out.name in place and not out.outputs and _channels(node.inputs[0]) == _named(node):
            place[out.name] = node.inputs[0].name
            node.outputs.clear()
    graph.nodes[:] = [n for n in graph.nodes if n.outputs]
    graph.outputs = [tensors[name] for name in dict.fromkeys(place.values())]
    return Layout(graph.toposort(), place, session)


def sizes(layout: Layout, known: Mapping[str, int]) -> dict[str, int]:
    """Bytes of the tensors of the laid out graph, from the `known` ones of the original one.

    A tensor that the optimizer made and nobody observes has no size here.
    """
    found = {name: known[name] for name in layout.graph.tensors() if name in known}
    return found | {place: known[name] for name, place in layout.place.items() if name in known}


def _type_tokens(graph: Graph) -> None:
    """Name the type of the tensors that the layout optimizer made: it works on float32 alone, and
    does not declare them. Others without a type are left so: no cut is made where they cross."""
    for node in graph.nodes:
        if node.domain == NCHWC or (node.op in BLOCKED and _float32(node.inputs)):
            for out in node.outputs:
                if out.dtype is None:
                    out.dtype = np.dtype(np.float32)


def _float32(inputs: Iterable[Tensor]) -> bool:
    computed = [t for t in inputs if not isinstance(t, gs.Constant)]
    return bool(computed) and all(t.dtype == np.float32 for t in computed)


def _named(node: Node) -> int:
    """The channels that a reorder keeps."""
    return int(node.attrs["channels"])


def _channels(tensor: Tensor) -> int | None:
    """Channels of a blocked tensor, the padding included; None where that is not known."""
    node = graphs.producer(graphs.behind(tensor, CHANNELWISE))
    if node is None or node.domain != NCHWC or node.op != "Conv":
        return None
    weight = node.inputs[1]
    return int(weight.shape[0]) if weight.shape else None
