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
    """Raises OnnxqError where no layer has a node of the model, or most have others: a few names,
    such as Conv_9, are in many models."""
    told = [x for x in info.layers if (said := named(x.name, x.metadata)).nodes and not said.hidden]
    others = [x.name for x in told if not named(x.name, x.metadata, model.ops).nodes]
    if told and len(others) == len(told):
        raise OnnxqError(f"'{info.path}' has no node of '{path}' in its layers: it is an engine of "
                         "another model, or its nodes have other names")  # fmt: skip
    if len(others) > len(told) / 2:
        strange = others[0][:60]
        raise OnnxqError(f"'{info.path}' is of another model than '{path}': most of its layers "
                         f"have nodes that it has not, such as '{strange}'")  # fmt: skip
