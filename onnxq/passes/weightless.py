"""A model's skeleton: the graph with its large weights turned into graph inputs.

onnx's shape inference, version converter and checker work on serialized models, which end at
2 GB. None of them looks into large weights; they need types, shapes and the small integers that
shapes are computed from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx_graphsurgeon as gs

from onnxq.model.graph import Graph, Tensor, from_proto, to_proto

KEEP_BYTES = 1024


def weightless(graph: Graph) -> tuple[onnx.ModelProto, dict[str, Tensor]]:
    """The model of `graph` with constants over 1 kB as inputs, and those constants by name.

    `graph` is as it was afterwards; its outputs and original inputs keep their order.
    """
    large = {
        name: tensor
        for name, tensor in graph.tensors().items()
        if isinstance(tensor, gs.Constant) and tensor._values.nbytes > KEEP_BYTES
    }
    with _as_inputs(graph, list(large.values())):
        model = to_proto(graph)
    for said in ("producer_name", "producer_version"):
        model.ClearField(said)
    return model, large


@contextmanager
def _as_inputs(graph: Graph, constants: list[Tensor]) -> Iterator[None]:
    """Within it the constants are inputs of the graph: to copy 10,000 nodes for that takes longer
    than to write them."""
    inputs, states = graph.inputs, [(type(t), dict(vars(t))) for t in constants]
    try:
        for tensor in constants:
            tensor.to_variable(shape=list(tensor.shape))
            tensor.type = "tensor_type"
        graph.inputs = [*inputs, *constants]
        yield
    finally:
        graph.inputs = inputs
        for tensor, (kind, state) in zip(constants, states, strict=True):
            tensor.__class__ = kind
            tensor.__dict__.clear()
            tensor.__dict__.update(state)


def refill(graph: Graph, model: onnx.ModelProto, large: dict[str, Tensor]) -> None:
    """Let `graph` be what `model`, made from its weightless copy, says; weights come back."""
    fresh = from_proto(model)
    for tensor in [t for t in fresh.inputs if t.name in large]:
        tensor.to_constant(large[tensor.name]._values)  # not .values, which loads them
    fresh.inputs = [t for t in fresh.inputs if t.name not in large]
    graph.nodes, graph.inputs, graph.outputs = fresh.nodes, fresh.inputs, fresh.outputs
    graph.opset = fresh.opset
    graph.import_domains = list(fresh.import_domains)
    graph.functions = list(fresh.functions)
