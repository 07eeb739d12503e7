"""Rules on FP4: which blocks TensorRT takes, and which products multiply FP4 by FP4."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from onnxq import fp4
from onnxq.model.graph import Node, producer
from onnxq.model.qdq import Quantizer, gives_scales
from onnxq.trt.context import Context
from onnxq.trt.rule import DOCS, SEEN, Place, Rule
from onnxq.trt.rules_shape import dims_of

FP4, FP8 = "FLOAT4E2M1", int(TensorProto.FLOAT8E4M3FN)
RANKS = (2, 3)


def blocks(ctx: Context) -> Iterator[Place]:
    """FP4 in blocks of another size than 16, in none, or with scales that are not FP8."""
    for q in ctx.quantizers:
        if q.dtype != FP4:
            continue
        size = q.node.attrs.get("block_size", fp4.BLOCK if q.node.op == fp4.DYNAMIC else 0)
        kind = q.node.attrs.get("scale_type", FP8)
        if size != fp4.BLOCK:
            yield q.node, f"FP4 in blocks of {size}" if size else "FP4 without blocks"
        elif kind != FP8:
            yield q.node, f"the scales of its blocks are {TensorProto.DataType.Name(kind)}"


def shapes(ctx: Context) -> Iterator[Place]:
    """Activations of another rank, or along an axis of which no number of blocks is known."""
    for q in ctx.quantizers:
        dims = dims_of(q.data) if q.dynamic and q.quantizes else None
        if dims is None:
            continue
        axis = 1 if q.axis is None else q.axis
        if len(dims) not in RANKS:
            yield q.node, f"it quantizes the tensor '{q.data.name}' of {len(dims)} dimensions"
        elif axis % len(dims) < len(dims) - 2:
            yield q.node, f"its blocks lie along axis {axis} of {len(dims)}"
        elif dims[axis] is None or (dims[axis] or 0) % fp4.BLOCK:
            yield q.node, f"axis {axis} is {dims[axis] or 'of no length that is known'}"


def products(ctx: Context) -> Iterator[Place]:
    """Products that read FP4 and cannot multiply it by FP4."""
    for node, operands in ctx.weighted():
        types = [None if q is None else q.dtype for q in operands]
        if FP4 not in types or None in operands:
            continue
        if types != [FP4, FP4]:
            other = next(t for t in types if t != FP4)
            yield node, f"it multiplies FP4 by {other}"
        elif unlike := next(filter(None, map(_unfit, [node] * 2, operands, (0, 1))), ""):
            yield node, unlike


def _unfit(node: Node, q: Quantizer | None, index: int) -> str:
    """Why the blocks of an operand do not serve a product; empty where they do."""
    if q is None or q.axis is None:
        return ""
    before = producer(q.node.inputs[1])
    if not q.dynamic and (before is None or not gives_scales(before)):
        return "the scales of its FP4 weight are no FP8 numbers"
    dims = dims_of(q.data)
    if not dims:
        return ""
    summed = len(dims) - (1 if (index == 0) != _is_transposed(node, index) else 2)
    return "" if q.axis % len(dims) == summed else f"the blocks of operand {index} lie along "\
        f"axis {q.axis}, and it sums over {summed}"  # fmt: skip


def _is_transposed(node: Node, index: int) -> bool:
    return bool(node.op == "Gemm" and node.attrs.get("transA" if index == 0 else "transB", 0))


RULES: tuple[Rule, ...] = (
    Rule(
        "fp4-blocks", "refused",
        "FP4 comes in blocks of 16, with FP8 scales that one FP32 scale multiplies. "
        "TensorRT-RTX takes a weight in other blocks too, and builds the same kernel.",
        DOCS + "; " + SEEN, "write blocks of 16 (onnxq quantize --scheme nvfp4)", blocks,
        says=("block_size == 16", "scale_type must be FP8", "Quantized constant"),
    ),
    Rule(
        "fp4-shape", "refused",
        "FP4 takes activations of two or three dimensions, in blocks along one of the last two, "
        "whose length is known and divides by 16.",
        DOCS + ", DynamicQuantize; " + SEEN, "leave the product FP8 (onnxq quantize does)", shapes,
        says=("must be 2D or 3D", "does not divide the input extent", "known at build time"),
    ),
    Rule(
        "fp4-product", "slow",
        "FP4 multiplies only FP4, both in blocks along the sum. Anything else is dequantized "
        "by separate kernels and runs in float.", SEEN,
        "quantize both operands to FP4 (onnxq quantize --scheme nvfp4)", products,
    ),
)  # fmt: skip
