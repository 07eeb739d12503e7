"""Write the shapes and types that onnx can infer onto the tensors.

Inference starts from the graph's inputs and does not believe the shapes written inside the file:
exporters leave the sizes of the example input there. What it finds replaces them; what it cannot
know, behind custom ops for instance, is kept. A dimension it only has a number for (`unk__3`)
becomes None; the names the inputs gave theirs stay. An output keeps what the model declares for it
as long as that does not contradict: another rank or length, a number where the inputs have a name.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Iterable, Sequence

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter

from onnxq.model.graph import Graph, Tensor, is_custom, is_standard, quietly, uncollected
from onnxq.passes.weightless import weightless

log = logging.getLogger(__name__)

LONG = 1 << 16  # values of a constant that Concats make


@uncollected()
def infer_shapes(graph: Graph) -> int:
    """Infer shapes; how many tensors changed. A model that cannot be inferred stays as it is."""
    model, _ = weightless(graph)
    declared = [(info, onnx.ValueInfoProto.FromString(info.SerializeToString()))
                for info in model.graph.output]  # fmt: skip
    _forget(model.graph, {t.name for n in graph.nodes if is_standard(n) for t in n.outputs})
    keep = {t.name for node in graph.nodes if is_custom(node) for t in node.outputs}
    claims = [info for info in model.graph.value_info if info.name in keep]
    del model.graph.value_info[:]
    model.graph.value_info.extend(claims)
    try:
        propagates = not _grows(graph)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=propagates)
        if _remember(declared, inferred.graph):
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=propagates)
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


def _grows(graph: Graph) -> bool:
    """Whether Concats of constants make a long one: onnx would carry each of its values along."""
    lengths: dict[int, int] = {}
    for node in graph.nodes:
        inputs = [t for t in node.inputs if not t.is_empty()]
        known = [lengths.get(id(t), _length(t)) for t in inputs]
        if known and None not in known:
            whole = [n for n in known if n is not None]
            length = sum(whole) if node.op == "Concat" else max(whole)
            if length > LONG and node.op == "Concat":
                return True
            lengths |= {id(t): length for t in node.outputs}
    return False


def _length(tensor: Tensor) -> int | None:
    return math.prod(tensor.shape) if isinstance(tensor, gs.Constant) else None


def _update(tensor: Tensor, info: onnx.ValueInfoProto, is_output: bool) -> bool:
    """Whether the tensor changed."""
    if not info.type.HasField("tensor_type"):
        return False
    before = (tensor.dtype, tensor.shape)
    with quietly():
        fresh = OnnxImporter.import_tensor(info)
    if info.type.tensor_type.elem_type:
        tensor.dtype = fresh.dtype
    if fresh.shape is not None:
        found = [_dimension(d) for d in fresh.shape]
        if not (is_output and tensor.shape is not None and _agree(tensor.shape, found)):
            tensor.shape = found
    return (tensor.dtype, tensor.shape) != before


def _agree(declared: Sequence[int | str | None], found: Sequence[int | str | None]) -> bool:
    """Whether a declared shape may be that which was found."""
    return len(declared) == len(found) and all(
        f is None or d == f or not isinstance(d, int) for d, f in zip(declared, found, strict=True)
    )


def _remember(
    declared: Iterable[tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]], found: onnx.GraphProto
) -> bool:
    """Give outputs whose shapes were not found those that the model declares; whether any has one:
    what lies behind may then be inferred."""
    unknown = {i.name for i in found.output if not i.type.tensor_type.HasField("shape")}
    known = [(info, said) for info, said in declared
             if info.name in unknown and said.type.tensor_type.HasField("shape")]  # fmt: skip
    for info, said in known:
        info.CopyFrom(said)
    return bool(known)


def _forget(graph: onnx.GraphProto, written: Container[str]) -> None:
    """Take away the shapes that outputs declare which are `written` by what can be inferred, and
    all in bodies that are not of inputs: inference would believe them, or stop where it finds
    another."""
    for info in graph.output:
        if info.name in written:
            info.type.tensor_type.ClearField("shape")
    for body in (g for node in graph.node for a in node.attribute for g in (a.g, *a.graphs)):
        del body.value_info[:]
        inner = {name for node in body.node for name in node.output}
        _forget(body, inner)


def _dimension(d: int | str | None) -> int | str | None:
    return None if isinstance(d, str) and (not d or d.startswith("unk__")) else d
