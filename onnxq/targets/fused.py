"""What ONNX Runtime's optimizer writes in place of ONNX's own ops, with weights that stay float."""

from __future__ import annotations

from onnxq.model.graph import Graph, Node, constant_of

FUSED = frozenset({
    "BiasDropout", "BiasGelu", "BiasSoftmax", "BiasSplitGelu", "EmbedLayerNormalization",
    "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "FusedMatMulActivation", "NhwcConv",
    "NhwcFusedConv", "NhwcMaxPool", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    "TransposeMatMul",
})  # fmt: skip
LAYOUTS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
MATRIX = 2  # axes that a weight has at least
REMEDY = "start from the export that ONNX Runtime has not optimized"


def is_fused(node: Node) -> bool:
    """Whether ONNX Runtime's optimizer wrote a node."""
    return (node.domain == "com.microsoft" and node.op in FUSED) or node.domain in LAYOUTS


def fused_weights(graph: Graph) -> dict[str, str]:
    """Nodes that the optimizer wrote and that hold weights, each with the reason to stay float."""
    return {
        node.name: f"optimized-op: ONNX Runtime's optimizer wrote this {node.op}; {REMEDY}"
        for node in graph.nodes
        if is_fused(node) and any(_is_weight(constant_of(t)) for t in node.inputs)
    }


def fused_note(graph: Graph) -> list[str]:
    """A line for the user where such nodes are left float."""
    found = fused_weights(graph)
    if not found:
        return []
    ops = sorted({node.op for node in graph.nodes if node.name in found})
    return [
        f"{len(found)} ops that ONNX Runtime's optimizer wrote ({', '.join(ops)}) stay float, and "
        f"TensorRT does not know them: {REMEDY}"
    ]


def _is_weight(values: object) -> bool:
    return getattr(values, "ndim", 0) >= MATRIX
