"""Models with FP4, which ONNX Runtime runs as a float stand-in that computes the same numbers."""

from __future__ import annotations

from pathlib import Path

import onnx

from onnxq import fp4
from onnxq.errors import CannotRun
from onnxq.model import graph as graphs
from onnxq.passes.floats_for_fp4 import floats_for_fp4

NO_FP4 = "ONNX Runtime has no kernels for FP4"


def has_fp4(graph: onnx.GraphProto) -> bool:
    """Whether a constant is FP4 or a node quantizes to it, in subgraphs too."""
    if any(t.data_type == onnx.TensorProto.FLOAT4E2M1 for t in graph.initializer):
        return True
    inner = (a.g for node in graph.node for a in node.attribute if a.HasField("g"))
    return any(node.op_type == fp4.DYNAMIC for node in graph.node) or any(map(has_fp4, inner))


def in_floats(model: onnx.ModelProto | Path, plain: bool) -> onnx.ModelProto:
    """The stand-in of a model with FP4; raises CannotRun for a `plain` session, which runs none."""
    if plain:
        raise CannotRun(NO_FP4)
    graph = graphs.from_proto(graphs.load_proto(model) if isinstance(model, Path) else model)
    floats_for_fp4(graph)
    return graphs.to_proto(graph)
