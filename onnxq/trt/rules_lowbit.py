"""Rules on 4-bit and FP8 types: which products have kernels, and what runs in float by design."""

from __future__ import annotations

from collections.abc import Iterator

from onnxq.model.geometry import CONVOLUTIONS
from onnxq.model.graph import Node, constant_of, producer
from onnxq.model.qdq import Quantizer, is_constant
from onnxq.targets.float_rules import FP8_CHANNELS, FP8_WINDOW
from onnxq.trt.context import MOVES, Context
from onnxq.trt.rule import SEEN, Place, Rule
from onnxq.trt.rules_shape import dims_of

FP8 = "FLOAT8E4M3FN"
FP4 = "FLOAT4E2M1"
CODES_4BIT = ("INT4", FP4)
MODEL_OPTIMIZER = "NVIDIA Model Optimizer, fp8.py; " + SEEN


def weight_alone(ctx: Context, node: Node) -> Quantizer | None:
    """The DQ of a weight whose op reads a float activation by design: 4-bit codes, which are for
    weights alone, or any in a model that quantizes no activation."""
    operands = [ctx.dequantizer(t, through=MOVES) for t in node.inputs[:2]]
    given = [q for q in operands if q is not None]
    if len(given) != 1 or not ctx.is_weight(given[0]):
        return None
    deliberate = given[0].dtype in CODES_4BIT or not _quantizes_activations(ctx)
    return given[0] if deliberate else None


def _quantizes_activations(ctx: Context) -> bool:
    return any(q.quantizes and not is_constant(q.data) for q in ctx.quantizers)


def weights_alone(ctx: Context) -> Iterator[Place]:
    """Weighted ops that compute in float on a weight that is stored as codes."""
    for node, _ in ctx.weighted():
        dq = weight_alone(ctx, node)
        if dq is None or node.op == "ConvTranspose":
            continue
        if node.op == "Conv" or dq.dtype not in CODES_4BIT:
            yield node, f"its weight alone is quantized, to {dq.dtype}"


def block_products(ctx: Context) -> Iterator[Place]:
    """Products of two quantized operands, one of them in blocks."""
    for node, operands in ctx.weighted():
        if FP4 in {q.dtype for q in operands if q is not None}:  # fp4-product speaks of these
            continue
        if all(operands) and any(q is not None and q.block_size for q in operands):
            yield node, "its weight has blocks and its activation is quantized too"


def _fp8_weight(node: Node, operands: list[Quantizer | None], ctx: Context) -> list[int] | None:
    """The dimensions of the weight of an FP8 convolution; None for any other op."""
    if node.op not in CONVOLUTIONS or operands[0] is None or operands[1] is None:
        return None
    if {q.dtype for q in operands if q is not None} != {FP8}:
        return None
    dims = dims_of(ctx.source(operands[1]))
    return None if not dims or None in dims else [d or 0 for d in dims]


def fp8_channels(ctx: Context) -> Iterator[Place]:
    """FP8 convolutions of few channels, or of unlike ones."""
    for node, operands in ctx.weighted():
        dims = _fp8_weight(node, operands, ctx)
        if dims and (dims[1] < FP8_CHANNELS or dims[0] % FP8_CHANNELS != dims[1] % FP8_CHANNELS):
            yield node, f"FP8 with {dims[1]} channels in (a group) and {dims[0]} out"


def fp8_windows(ctx: Context) -> Iterator[Place]:
    """FP8 convolutions over large windows."""
    for node, operands in ctx.weighted():
        dims = _fp8_weight(node, operands, ctx) or []
        size = 1
        for d in dims[2:]:
            size *= d
        if size > FP8_WINDOW:
            yield node, f"FP8 over a window of {size} values"


def clipped_codes(ctx: Context) -> Iterator[Place]:
    """A Clip between a QuantizeLinear and its DequantizeLinear."""
    for q in ctx.quantizers:
        before = None if q.quantizes else producer(q.data)
        if before is not None and before.op == "Clip":
            behind = ctx.quantizer(before.inputs[0])
            if behind is not None and behind.quantizes:
                bounds = [constant_of(t) for t in before.inputs[1:3]]
                limits = " to ".join("?" if b is None else str(b) for b in bounds)
                yield before, f"it clips codes to {limits}"


RULES: tuple[Rule, ...] = (
    Rule(
        "weight-only", "info",
        "Quantizing only the weight saves memory, not time. A separate kernel dequantizes a "
        "Conv's weight, a product unpacks its own; both compute in float.", SEEN,
        "quantize activations too (w8a8, fp8), or give INT4 weights of products blocks",
        weights_alone,
    ),
    Rule(
        "block-product", "refused",
        "No kernel multiplies codes by codes in blocks. TensorRT-RTX builds one (Gemm with "
        "transB=0), but its kernel does not show the scales of the blocks.", SEEN,
        "one scale a channel, or leave the activation float", block_products,
        says=(r"operand\.h",),
    ),
    Rule(
        "fp8-channels", "refused",
        "TensorRT's FP8 convolutions need 16 channels or more, and as many modulo 16 in as "
        "out. TensorRT-RTX pads any others.", MODEL_OPTIMIZER,
        "quantize this Conv to INT8 (--scheme-for NODE=w8a8), or leave it float", fp8_channels,
        rtx="info", says=("[Cc]ould not find any impl",),
    ),
    Rule(
        "fp8-window", "refused",
        "TensorRT has no FP8 kernel for windows of over 32 values. TensorRT-RTX runs them in "
        "float.", MODEL_OPTIMIZER,
        "quantize this Conv to INT8 (--scheme-for NODE=w8a8), or leave it float", fp8_windows,
        rtx="slow", says=("[Cc]ould not find any impl",),
    ),
    Rule(
        "clipped-codes", "refused",
        "TensorRT's Clip takes no INT8. TensorRT-RTX folds it if the weight is constant.",
        "TensorRT's ONNX parser, operators.md; " + SEEN,
        "store the codes (onnxq quantize --weights-as int)", clipped_codes, rtx="info",
    ),
)  # fmt: skip
