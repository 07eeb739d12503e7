"""What the Q/DQ of a model ask for, weighted node by weighted node."""

from __future__ import annotations

from onnxq.model.graph import Graph, Node, constant_of, producer
from onnxq.model.qdq import dynamic_quantizer, type_name
from onnxq.targets.options import is_weighted


def meant(graph: Graph) -> dict[str, str]:
    """Weighted nodes -> the precision that their Q/DQ asks for.

    Those whose first two inputs are dequantized, and products with INT4 weights alone, in blocks:
    a kernel unpacks these as it multiplies. Other weights alone are dequantized, to compute in
    float.
    """
    found = {}
    for node in graph.nodes:
        if is_weighted(node):
            before = [producer(t) for t in node.inputs[:2]]
            types = [_precision(n) for n in before]
            if types[0] and types[1]:
                found[node.name] = types[0]
            elif types[1] == "int4" and before[1] and before[1].attrs.get("block_size", 0):
                found[node.name] = "int4"
    return found


def _precision(node: Node | None) -> str | None:
    """What a DequantizeLinear reads, through Casts: "int8", "int4", "fp8", "fp4"; else None."""
    while node is not None and node.op == "Cast":
        node = producer(node.inputs[0])
    if node is None or node.op != "DequantizeLinear":
        return None
    if dynamic_quantizer(node) is not None:
        return "fp4"
    codes = node.inputs[0]
    values = constant_of(codes) if codes.dtype is None else None
    name = type_name(codes.dtype if values is None else values.dtype) or ""
    if name == "FLOAT4E2M1":
        return "fp4"
    return "fp8" if name.startswith("FLOAT8") else "int4" if name.endswith("INT4") else "int8"
