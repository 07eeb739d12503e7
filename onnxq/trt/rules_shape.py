"""Rules on how scales lie along a tensor: axis, length, blocks."""

from __future__ import annotations

from collections.abc import Iterator

from onnxq.model.geometry import CONVOLUTIONS, geometry_of
from onnxq.model.graph import WEIGHTED, Node, Tensor
from onnxq.model.qdq import Quantizer
from onnxq.trt.context import Context
from onnxq.trt.rule import DOCS, ONNX, SEEN, Place, Rule

BLOCKED_TYPES = ("INT4", "FLOAT8E4M3FN", "FLOAT4E2M1")
INT4_BLOCKS = (64, 128)
DEFAULT_AXIS = 1  # QuantizeLinear and DequantizeLinear, operator specification


def dims_of(tensor: Tensor) -> list[int | None] | None:
    """Dimensions, None for each that is not a number; None where the rank is unknown."""
    if tensor.shape is None:
        return None
    return [int(d) if isinstance(d, int) and d >= 0 else None for d in tensor.shape]


def _dims(ctx: Context, q: Quantizer) -> list[int | None] | None:
    """The shape of what a quantizer reads: of the tensor, or of what the Q before it reads."""
    known = dims_of(q.data)
    return dims_of(ctx.source(q)) if known is None and not q.quantizes else known


def missing_axes(ctx: Context) -> Iterator[Place]:
    """Several scales and no axis."""
    for q in ctx.quantizers:
        if q.per_channel and q.axis is None and not q.block_size:
            yield q.node, f"{len(q.scale)} scales and no axis"  # type: ignore[arg-type]


def scale_lengths(ctx: Context) -> Iterator[Place]:
    """Scales that are not as many as the dimension they lie along, or lie along none."""
    for q in ctx.quantizers:
        if q.scale is None or q.block_size:
            continue
        if q.scale.size == 0 or q.scale.ndim > 1:
            yield q.node, f"its scale has the shape {list(q.scale.shape)}"
        elif q.per_channel and (problem := _misfit(ctx, q)):
            yield q.node, problem


def _misfit(ctx: Context, q: Quantizer) -> str:
    dims = _dims(ctx, q)
    axis = DEFAULT_AXIS if q.axis is None else q.axis
    count = len(q.scale)  # type: ignore[arg-type]
    if not dims:
        return ""
    if not -len(dims) <= axis < len(dims):
        return f"axis {axis} of a tensor with {len(dims)} dimensions"
    if dims[axis] not in (None, count):
        return f"{count} scales along axis {axis}, which is {dims[axis]} long"
    return ""


def wrong_axes(ctx: Context) -> Iterator[Place]:
    """Weights quantized along an axis that no integer kernel can scale afterwards."""
    for node, operands in ctx.weighted():
        for i, dq in enumerate(operands):
            if dq is None or not dq.per_channel or dq.block_size or not _is_kernel(ctx, dq, i):
                continue
            dims = _dims(ctx, dq)
            wanted = _output_axis(node, i, None if dims is None else len(dims))
            axis = DEFAULT_AXIS if dq.axis is None else dq.axis
            if wanted is not None and dims and axis % len(dims) != wanted:
                yield node, f"its weight has a scale per axis {axis}, its outputs lie on {wanted}"


def _is_kernel(ctx: Context, dq: Quantizer, index: int) -> bool:
    """Whether an operand is a weight rather than an activation."""
    return ctx.is_weight(dq) or index == 1


def _output_axis(node: Node, index: int, rank: int | None) -> int | None:
    """The axis of operand `index` that becomes output channels; None where none is tested."""
    if node.op in CONVOLUTIONS:
        return 0 if node.op == "Conv" and index == 1 else None
    return None if rank is None or rank < 2 else geometry_of(node, index).outputs % rank


def channel_scaled_activations(ctx: Context) -> Iterator[Place]:
    """Activations with a scale per channel."""
    for q in ctx.quantizers:
        if not q.quantizes or not q.per_channel or not _is_activation(ctx, q):
            continue
        yield q.node, f"the activation '{q.data.name}' has {q.scale.size} scales"  # type: ignore[union-attr]


def _is_activation(ctx: Context, q: Quantizer) -> bool:
    """Whether a Q's data is computed and is nowhere the second operand of a weighted op."""
    if q.data.inputs == [] and not any(q.data is t for t in ctx.graph.inputs):
        return False
    readers = [(n, t) for dq in q.out.outputs for t in dq.outputs for n in t.outputs]
    kernels = [n.op in WEIGHTED and n.inputs[1] is t for n, t in readers]
    return not (kernels and all(kernels))


def one_element_scales(ctx: Context) -> Iterator[Place]:
    """Activations of a convolution whose one scale has the shape [1]."""
    for node, operands in ctx.weighted():
        dq = operands[0]
        if node.op == "Conv" and dq is not None and not ctx.is_weight(dq):
            before = ctx.quantizer(dq.data)
            for q in (dq, before):
                if q is not None and q.scale is not None and q.scale.shape == (1,):
                    yield q.node, f"its scale has the shape [1], and '{node.name}' reads it"


def block_shapes(ctx: Context) -> Iterator[Place]:
    """Blocks that do not divide the tensor, or lie along an axis that cannot be blocked."""
    for q in ctx.quantizers:
        dims = _dims(ctx, q)
        if not q.block_size or q.dynamic or q.scale is None or not dims or None in dims:
            continue
        axis = (DEFAULT_AXIS if q.axis is None else q.axis) % len(dims)
        size = dims[axis] or 0
        wanted = [d or 0 for d in dims]
        wanted[axis] = -(-size // q.block_size)
        if list(q.scale.shape) != wanted:
            yield q.node, (f"blocks of {q.block_size} along axis {axis} of {dims} need scales "
                           f"{wanted}, there are {list(q.scale.shape)}")  # fmt: skip
        elif size % q.block_size and wanted[axis] > 1:
            yield q.node, f"blocks of {q.block_size} do not divide axis {axis}, {size} long"
        elif axis < len(dims) - 2:
            yield q.node, f"axis {axis} of {dims} is blocked"


def block_types(ctx: Context) -> Iterator[Place]:
    """Blocks on INT8 or on activations."""
    for q in ctx.quantizers:
        if q.block_size and q.dtype and q.dtype not in BLOCKED_TYPES:
            yield q.node, f"blocks of {q.block_size} on {q.dtype}"


def int4_blocks(ctx: Context) -> Iterator[Place]:
    """INT4 blocks of other sizes than there are kernels for, where such a size would fit."""
    for q in ctx.quantizers:
        if not q.block_size or q.dtype != "INT4" or q.block_size in INT4_BLOCKS:
            continue
        dims, axis = _dims(ctx, q), DEFAULT_AXIS if q.axis is None else q.axis
        length = dims[axis] if dims and -len(dims) <= axis < len(dims) else None
        least = min(INT4_BLOCKS)
        if length is None or (length % least == 0 and length > least):
            yield q.node, f"INT4 blocks of {q.block_size}"


def unblocked_int4(ctx: Context) -> Iterator[Place]:
    """INT4 weight-only products with no blocks, or one block as long as the axis."""
    for node, operands in ctx.weighted():
        if node.op not in ("MatMul", "Gemm"):
            continue
        for dq, other in (operands, operands[::-1]):
            if dq is None or other is not None or dq.dtype != "INT4" or dq.scale is None:
                continue
            if not dq.block_size or 1 in dq.scale.shape:
                yield node, f"its INT4 weight has the scales {list(dq.scale.shape)}"


def int4_activations(ctx: Context) -> Iterator[Place]:
    """Activations in INT4."""
    for q in ctx.quantizers:
        if q.quantizes and q.dtype == "INT4" and _is_activation(ctx, q):
            yield q.node, f"the activation '{q.data.name}' is quantized to INT4"


RULES: tuple[Rule, ...] = (
    Rule(
        "missing-axis", "refused",
        "Without an axis ONNX and the parser of TensorRT-RTX 1.7 take 1, older parsers take 0.",
        ONNX + "; TensorRT's ONNX parser", "write the axis (--fix writes what ONNX means)",
        missing_axes, rtx="info", says=("number of scales is not equal",),
    ),
    Rule(
        "scale-length", "refused",
        "A scale is one number, or one for each channel along the axis.", ONNX + "; " + SEEN,
        "write as many scales as the axis is long, in one dimension", scale_lengths,
        says=("number of scales is not equal", "Axis must be in the range", "no coefficients",
              "Invalid rank for the scale", "addQuantize|addDequantize", "quantization axis must"),
    ),
    Rule(
        "wrong-axis", "slow",
        "An integer product can only be scaled per output channel. With any other axis the op "
        "runs in float.", SEEN,
        "quantize along the output channels: Conv 0, MatMul last, Gemm 0 if transB else 1",
        wrong_axes,
    ),
    Rule(
        "activation-per-channel", "refused",
        "An activation has one scale. TensorRT-RTX builds this, but the Conv that reads it "
        "runs in float.", DOCS + "; " + SEEN, "quantize activations per tensor",
        channel_scaled_activations, rtx="slow",
    ),
    Rule(
        "scale-shape", "slow",
        "A convolution whose input has a scale of shape [1] runs in float; with a scalar it "
        "runs in INT8.", SEEN, "write the scale and zero point as scalars (--fix does)",
        one_element_scales,
    ),
    Rule(
        "block-shape", "refused",
        "Blocks divide one axis, the last or second to last, with a scale each.",
        DOCS + "; " + SEEN, "block the axis that is summed over, in a size that divides it",
        block_shapes,
        says=("whole blocks", "blocking dimension", "must equal the corresponding input dim",
              "only the quantization axis may be blocked"),
    ),
    Rule(
        "block-type", "refused",
        "Only INT4, FP8 and FP4 have block scales. TensorRT-RTX builds INT8 blocks, and runs "
        "them in float.", DOCS + "; " + SEEN, "use INT4 weights, or one INT8 scale a channel",
        block_types, rtx="slow",
    ),
    Rule(
        "block-size", "slow",
        "INT4 weight-only products have kernels for blocks of 64 and 128. TensorRT-RTX fuses "
        "16 and 32 too.", DOCS + "; " + SEEN, "use blocks of 64 or 128", int4_blocks,
        rtx="info",
    ),
    Rule(
        "int4-unblocked", "slow",
        "A separate kernel dequantizes INT4 weights with one scale a tensor, a channel or an "
        "axis, and the product runs in float.", SEEN,
        "use blocks of 64 or 128 along the summed axis", unblocked_int4,
    ),
    Rule(
        "int4-activation", "refused",
        "INT4 is for weights. TensorRT-RTX builds this, and computes in float.",
        DOCS + "; " + SEEN, "quantize activations to INT8 or FP8", int4_activations, rtx="slow",
    ),
)  # fmt: skip
