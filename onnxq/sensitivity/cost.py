"""What a node holds and does: parameters and multiply-accumulates (MACs)."""

from __future__ import annotations

from onnxq.model.graph import Node, constant_of
from onnxq.run.macs import macs as macs


def parameters(node: Node) -> int:
    """How many constant values the node reads: weights and bias."""
    values = (constant_of(t) for t in node.inputs)
    return sum(int(v.size) for v in values if v is not None)
