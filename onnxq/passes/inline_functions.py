"""Put the bodies of model-local functions in place of their calls.

Exporters that write layers as functions hide the Convs and MatMuls inside from every rule that
looks at the graph; TensorRT quantizes what stands in the main graph. onnx's inliner does it, on a
copy without the large weights. It drops the defaults of a function's attributes, so they are
written at its calls first. A function that imports an older opset than the model is read as ONNX
Runtime reads it, with the model's; it is converted only where its ops do not exist there any more.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.inliner

from onnxq.errors import ModelError
from onnxq.model.graph import Graph
from onnxq.passes.weightless import refill, weightless

MOST_NODES = 1_000_000  # in a model without its functions


def inline_functions(graph: Graph) -> int:
    """Inline every local function; how many there were. Raises ModelError where onnx cannot."""
    count = len(graph.functions)
    if not count:
        return 0
    model, weights = weightless(graph)
    if _unfolded(model) > MOST_NODES:
        raise ModelError(f"the model's functions unfold to over {MOST_NODES} nodes, one within the "
                         "other; export it again without functions")  # fmt: skip
    _write_defaults(model)
    try:
        inlined = _inlined(_typed(model))
    except Exception as e:  # onnx raises RuntimeError and its own errors
        raise ModelError(
            f"the model's functions cannot be inlined: {str(e).splitlines()[0]}; "
            "export it again without functions"
        ) from e
    refill(graph, inlined, weights)
    return count


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions."""
    read = onnx.ModelProto()
    read.CopyFrom(model)
    opset = max(o.version for o in model.opset_import if not o.domain)
    for entry in (o for f in read.functions for o in f.opset_import if not o.domain):
        entry.version = max(entry.version, opset)
    try:
        inlined = onnx.inliner.inline_local_functions(read, convert_version=True)
        onnx.checker.check_model(inlined)
    except (onnx.checker.ValidationError, RuntimeError):
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    return inlined


def _write_defaults(model: onnx.ModelProto) -> None:
    """Give each call of a function the attributes that it leaves to their defaults."""
    defaults = {(f.domain, f.name, f.overload): f.attribute_proto for f in model.functions}

    def write(nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            given = {a.name for a in node.attribute}
            for default in defaults.get((node.domain, node.op_type, node.overload), ()):
                if default.name not in given:
                    node.attribute.append(default)
            for attribute in node.attribute:
                write(attribute.g.node)
                for body in attribute.graphs:
                    write(body.node)

    write(model.graph.node)
    for function in model.functions:
        write(function.node)


def _unfolded(model: onnx.ModelProto) -> int:
    """How many nodes the model has once its functions are inlined; past MOST_NODES where one calls
    itself."""
    bodies = {(f.domain, f.name, f.overload): f.node for f in model.functions}
    sizes: dict[tuple[str, str, str], int] = {}

    def of(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(size(node) for node in nodes)

    def size(node: onnx.NodeProto) -> int:
        key = (node.domain, node.op_type, node.overload)
        if key in bodies and key not in sizes:
            sizes[key] = MOST_NODES + 1
            sizes[key] = of(bodies[key])
        inner = (g for a in node.attribute for g in (a.g, *a.graphs) if g.node)
        return sizes.get(key, 1) + sum(of(g.node) for g in inner)

    return of(model.graph.node)


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a type for every value: the inliner needs them to convert a function's opset,
    and does not look at initializers for theirs."""
    typed = onnx.shape_inference.infer_shapes(model)
    typed.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in typed.graph.initializer
    )
    return typed
