"""What is broken in a model that its parser let through: names that are no text, tensors whose data
is not what their type and dimensions say.

onnx-graphsurgeon reads tensors when they are asked for, so that without this look at their sizes a
damaged one would come up in the middle of the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx
from onnx.external_data_helper import uses_external_data

# types that ONNX packs into bytes, with the bits that a value takes
POSITIVE = ("group", "strides", "dilations", "kernel_shape")
PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}


def broken_name(model: onnx.ModelProto) -> str | None:
    """The first name that is no text, in words; None where there is none."""
    bad = next((name for name in _names(model.graph) if not isinstance(name, str)), None)
    return None if bad is None else f"{bad!r} in it is no name"


def broken_tensor(model: onnx.ModelProto) -> str | None:
    """The first tensor with less or more data than it should have, in words; None where there is
    none. What is in other files is not looked at."""
    owners: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    for tensor in (tensor for owner in owners for tensor in stored_tensors(owner)):
        if why := _broken(tensor):
            return f"tensor '{tensor.name}' in it {why}"
    return None


def broken_attribute(model: onnx.ModelProto) -> str | None:
    """The first attribute of a node that is of another type than its op's, or a size or a number of
    groups below 1, in words; None where there is none. ONNX Runtime refuses these too."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    kinds: dict[str, dict[str, str]] = {}
    for node in _nodes(model.graph) if version else ():
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type not in kinds:
            kinds[node.op_type] = _attribute_types(node.op_type, version or 1)
        for attribute in node.attribute:
            if why := _misfit(attribute, kinds[node.op_type].get(attribute.name)):
                return f"attribute '{attribute.name}' of {node.op_type} '{node.name}' in it {why}"
    return None


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)


def _attribute_types(op: str, version: int) -> dict[str, str]:
    if not onnx.defs.has(op):
        return {}
    try:
        schema = onnx.defs.get_schema(op, version)
    except onnx.defs.SchemaError:  # younger than the model
        return {}
    return {name: str(known.type).rpartition(".")[2] for name, known in schema.attributes.items()}


def _misfit(attribute: onnx.AttributeProto, kind: str | None) -> str | None:
    if kind is None or not attribute.type:
        return None
    found = onnx.AttributeProto.AttributeType.Name(attribute.type)
    if found != kind:
        return f"is {found}, not {kind}"
    values = [attribute.i] if attribute.name == "group" else attribute.ints
    if attribute.name in POSITIVE and any(value < 1 for value in values):
        return f"is {', '.join(map(str, values))}; it must be 1 or more"
    return None


def _names(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    """Every name in the main graph, and of its files; one that is not UTF-8 comes as bytes."""
    for tensor in graph.initializer:
        yield tensor.name
        yield from (entry.value for entry in tensor.external_data)
    yield from (value.name for value in (*graph.input, *graph.output))
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def stored_tensors(owner: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a graph or function holds: initializers and attributes, subgraphs' too."""
    if isinstance(owner, onnx.GraphProto):
        yield from owner.initializer
    for node in owner.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for body in (attribute.g, *attribute.graphs):
                yield from stored_tensors(body)


def _broken(tensor: onnx.TensorProto) -> str | None:
    kinds = onnx.TensorProto.DataType
    if tensor.data_type not in kinds.values() or not tensor.data_type:
        return f"is of the unknown type {tensor.data_type}"
    kind, shape = kinds.Name(tensor.data_type), list(tensor.dims)
    if any(d < 0 for d in shape):
        return f"has the shape {shape}"
    if uses_external_data(tensor):
        return None
    if tensor.HasField("raw_data"):
        expected, found, unit = _raw_bytes(tensor, kind), len(tensor.raw_data), "bytes"
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        expected, found, unit = _values(tensor, kind), len(getattr(tensor, field)), "values"
    if found == expected:
        return None
    return f"has {found} {unit} of data, {expected} for {kind} {shape}"


def _raw_bytes(tensor: onnx.TensorProto, kind: str) -> int:
    count = prod(tensor.dims)
    if kind in PACKED_BITS:
        return -(-count * PACKED_BITS[kind] // 8)
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _values(tensor: onnx.TensorProto, kind: str) -> int:
    """How many numbers a typed field holds: two for a complex value, one for a packed byte."""
    count = prod(tensor.dims)
    if kind in PACKED_BITS:
        return -(-count * PACKED_BITS[kind] // 8)
    return 2 * count if kind.startswith("COMPLEX") else count
