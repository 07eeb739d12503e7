"""The ONNX model that an engine was built from: its nodes, and what their Q/DQ ask for."""

from __future__ import annotations

from onnxq.errors import OnnxqError
from onnxq.layers.info import LayerInfo
from onnxq.layers.meant import meant
from onnxq.layers.names import named
from onnxq.layers.reading import Model
from onnxq.model.graph import Graph


def model_of(graph: Graph) -> Model:
    """What a reading needs of a graph."""
    return Model({node.name: node.op for node in graph.nodes}, meant(graph))


def check_same(info: LayerInfo, model: Model, path: object) -> None:
    """Raises OnnxqError unless some layer has a node of the model."""
    told = [named(x.name, x.metadata) for x in info.layers]
    if all(said.hidden or not said.nodes for said in told):
        return
    if not any(named(x.name, x.metadata, model.ops).nodes for x in info.layers):
        raise OnnxqError(f"'{info.path}' has no node of '{path}' in its layers: it is an engine of "
                         "another model, or its nodes have other names")  # fmt: skip
