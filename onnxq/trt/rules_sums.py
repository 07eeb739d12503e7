"""Lint rules about sums of products of codes, which kernels add up in INT32."""

from __future__ import annotations

from collections.abc import Iterator

from onnxq.passes.rounded import INT32_MAX, largest_sum
from onnxq.trt.context import Context
from onnxq.trt.rule import ONNX, Place, Rule


def long_sums(ctx: Context) -> Iterator[Place]:
    """Weighted ops of 8-bit codes whose sums may pass INT32, by the codes of their weights."""
    for node, _ in ctx.weighted():
        most = largest_sum(node)
        if most > INT32_MAX:
            yield node, f"its sums of products may reach {most:.4g}; INT32 ends at {INT32_MAX}"


RULES: tuple[Rule, ...] = (
    Rule(
        "int32-sum", "inaccurate",
        "INT8 products are added up as INT32, which overflows beyond 132,000 terms of 127 x "
        "128.", ONNX + ", MatMulInteger and ConvInteger",
        "leave the node float, or split what it adds up in two", long_sums,
    ),
)  # fmt: skip
