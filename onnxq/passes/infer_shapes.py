"""Write the shapes and types that onnx can infer onto the tensors.

Inference starts from the graph's inputs and does not believe the shapes written inside the file:
exporters leave the sizes of the example input there. What it finds replaces them; what it cannot
know, behind custom ops for instance, is kept. A dimension it only has a number for (`unk__3`)
becomes None; the names the inputs gave theirs stay.
"""

from __future__ import annotations

import logging

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter

from onnxq.graph import Graph, Tensor, is_custom, quietly, uncollected
from onnxq.passes.weightless import weightless

log = logging.getLogger(__name__)


@uncollected()
def infer_shapes(graph: Graph) -> int:
    """Infer shapes; how many tensors changed. A model that cannot be inferred stays as it is."""
    model, _ = weightless(graph)
    keep = {t.name for node in graph.nodes if is_custom(node) for t in node.outputs}
    claims = [info for info in model.graph.value_info if info.name in keep]
    del model.graph.value_info[:]
    model.graph.value_info.extend(claims)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as e:  # onnx raises RuntimeError and its own InferenceError, among others
        log.info("shapes kept: onnx cannot infer them: %s", str(e).split("\n", 1)[0])
        return 0
    infos = {i.name: i for i in (*inferred.graph.value_info, *inferred.graph.output)}
    outputs = {t.name for t in graph.outputs}
    return sum(
        _update(tensor, infos[name], name in outputs)
        for name, tensor in graph.tensors().items()
        if isinstance(tensor, gs.Variable) and tensor.inputs and name in infos
    )


def _update(tensor: Tensor, info: onnx.ValueInfoProto, is_output: bool) -> bool:
    """Whether the tensor changed; an output keeps the shape that the model declares for it."""
    if not info.type.HasField("tensor_type"):
        return False
    before = (tensor.dtype, tensor.shape)
    with quietly():
        fresh = OnnxImporter.import_tensor(info)
    if info.type.tensor_type.elem_type:
        tensor.dtype = fresh.dtype
    if fresh.shape is not None and not (is_output and tensor.shape is not None):
        tensor.shape = [_dimension(d) for d in fresh.shape]
    return (tensor.dtype, tensor.shape) != before


def _dimension(d: int | str | None) -> int | str | None:
    return None if isinstance(d, str) and (not d or d.startswith("unk__")) else d
