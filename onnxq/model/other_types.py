"""Outputs of a model that are no tensors: sequences, maps, optional values.

onnx-graphsurgeon does not keep what is in them. So such an output is a tensor of no type to it, and
carries the type that the model declares, which is written again.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx_graphsurgeon as gs


class Other(gs.Variable):  # type: ignore[misc]
    """An output that is no tensor, with its type."""

    declared: onnx.TypeProto

    def copy(self) -> Other:
        """A copy without what reads and writes it, as onnx-graphsurgeon copies tensors."""
        fresh = Other(self.name, None, None, self.type)
        fresh.declared = self.declared
        return fresh


def keep_types(graph: Any, model: onnx.ModelProto) -> None:
    """Let the outputs of `graph` that are no tensors in `model` carry their types."""
    declared = {info.name: info.type for info in model.graph.output}
    for tensor in graph.outputs:
        kind = declared[tensor.name].WhichOneof("value")
        if type(tensor) is gs.Variable and kind not in (None, "tensor_type"):
            tensor.__class__ = Other
            tensor.declared = declared[tensor.name]
            tensor.dtype, tensor.shape, tensor.type = None, None, kind


def write_types(graph: Any, model: onnx.ModelProto) -> None:
    """Give the outputs of `model`, which `graph` was written to, the types that they carry."""
    carried = {t.name: t.declared for t in graph.outputs if isinstance(t, Other)}
    for info in model.graph.output:
        if info.name in carried:
            info.type.CopyFrom(carried[info.name])
