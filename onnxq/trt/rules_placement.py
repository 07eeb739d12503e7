"""Rules on where Q/DQ stand: what keeps an op from running in INT8, or costs a fusion."""

from __future__ import annotations

from collections.abc import Iterator

from onnxq.model.flow import same_source
from onnxq.model.graph import Node, Tensor, producer
from onnxq.model.qdq import Quantizer, is_constant
from onnxq.targets.attention import merged_projections
from onnxq.trt.context import MOVES, Context, label
from onnxq.trt.rule import DOCS, SEEN, Place, Rule
from onnxq.trt.rules_lowbit import weight_alone

FUSED_BEHIND_CONV = ("BatchNormalization", "Relu", "Clip")
HARDWARE = {"INT4": "8.0", "FLOAT8E4M3FN": "8.9", "FLOAT4E2M1": "10.0"}


def half_quantized(ctx: Context) -> Iterator[Place]:
    """Weighted ops with one operand under Q/DQ and the other float."""
    for node, _ in ctx.weighted():
        operands = [ctx.dequantizer(t, through=MOVES) for t in node.inputs[:2]]
        given = [q for q in operands if q is not None]
        if len(given) != 1 or node.op == "ConvTranspose":
            continue
        if weight_alone(ctx, node) is not None:
            continue
        what = "weight" if ctx.is_weight(given[0]) else "activation"
        yield node, f"only its {what} is quantized ('{node.inputs[operands.index(None)].name}' is "\
                    "float)"  # fmt: skip


def split_convs(ctx: Context) -> Iterator[Place]:
    """Q/DQ between a Conv and the BatchNormalization, Relu or Clip behind it."""
    for q in ctx.quantizers:
        before = producer(q.data)
        if not q.quantizes or before is None or before.op != "Conv":
            continue
        readers = [n for dq in q.out.outputs for t in dq.outputs for n in t.outputs]
        fused = [n for n in readers if n.op in FUSED_BEHIND_CONV]
        if fused and len(fused) == len(readers):
            yield q.node, f"it stands between the Conv and its {fused[0].op}"


def split_pads(ctx: Context) -> Iterator[Place]:
    """Q/DQ between a Pad and the Conv behind it."""
    for node, operands in ctx.weighted():
        if node.op != "Conv" or operands[0] is None:
            continue
        before = producer(ctx.source(operands[0]))
        if before is not None and before.op == "Pad":
            yield node, f"Q/DQ between the Pad '{label(before)}' and this Conv"


def stray_identities(ctx: Context) -> Iterator[Place]:
    """Identity beside Q/DQ."""
    for node in ctx.nodes:
        if node.op != "Identity" or is_constant(node.inputs[0]):
            continue
        around = [ctx.quantizer(node.inputs[0]), *(_reader(ctx, t) for t in node.outputs)]
        if any(q is not None for q in around):
            yield node, "an Identity beside Q/DQ"


def _reader(ctx: Context, tensor: Tensor) -> Quantizer | None:
    found = (ctx.quantizer(n.outputs[0]) for n in tensor.outputs if n.outputs)
    return next((q for q in found if q is not None), None)


def _quantizers_of(ctx: Context) -> dict[int, list[Quantizer]]:
    """Every Q by the tensor it reads."""
    found: dict[int, list[Quantizer]] = {}
    for q in ctx.quantizers:
        if q.quantizes and q.scale is not None:
            found.setdefault(id(q.data), []).append(q)
    return found


def same_numbers(a: Quantizer, b: Quantizer) -> bool:
    """Whether two quantizers of one tensor give the same codes."""
    if a.scale is None or b.scale is None or a.scale.shape != b.scale.shape:
        return False
    zeros = [q.zero_point if q.zero_point is None else q.zero_point.tobytes() for q in (a, b)]
    attributes = [(q.axis, q.block_size, q.dtype, q.scale.dtype) for q in (a, b)]  # type: ignore[union-attr]
    return bool((a.scale == b.scale).all() and zeros[0] == zeros[1]
                and attributes[0] == attributes[1])  # fmt: skip


def two_quantizers(ctx: Context) -> Iterator[Place]:
    """Tensors that two QuantizeLinear with different numbers read."""
    for quantizers in _quantizers_of(ctx).values():
        for q in quantizers[1:]:
            if not any(same_numbers(q, o) for o in quantizers[: quantizers.index(q)]):
                first = label(quantizers[0].node)
                yield q.node, f"'{q.data.name}' is quantized by '{first}' with other scales"


def duplicate_quantizers(ctx: Context) -> Iterator[Place]:
    """Tensors that two QuantizeLinear with the same numbers read."""
    for quantizers in _quantizers_of(ctx).values():
        for i, q in enumerate(quantizers):
            if any(same_numbers(q, other) for other in quantizers[:i]):
                yield q.node, f"'{q.data.name}' has the same QuantizeLinear already"


def _adds(ctx: Context) -> Iterator[tuple[Node, list[bool]]]:
    """Adds of two computed tensors, and whether each comes from a quantized Conv alone."""
    quantized = {id(n) for n, operands in ctx.weighted() if n.op == "Conv" and None not in operands}
    for node in ctx.nodes:
        if node.op == "Add" and not any(is_constant(_float_source(ctx, t))
                                        for t in node.inputs):  # fmt: skip
            sources = [producer(_float_source(ctx, t)) for t in node.inputs]
            yield node, [s is not None and id(s) in quantized for s in sources]


def _float_source(ctx: Context, tensor: Tensor) -> Tensor:
    """What `tensor` is without its Q/DQ."""
    dq = ctx.dequantizer(tensor)
    return tensor if dq is None else ctx.source(dq)


def quantized_both_ways(ctx: Context) -> Iterator[Place]:
    """Residual Adds with both branches under Q/DQ, the Conv's own included."""
    for node, from_conv in _adds(ctx):
        if any(from_conv) and all(ctx.dequantizer(t) is not None for t in node.inputs):
            yield node, "both of its inputs are quantized"


def float_skips(ctx: Context) -> Iterator[Place]:
    """Residual Adds that read in float a tensor that is quantized anyway."""
    quantized = {id(q.data) for q in ctx.quantizers if q.quantizes}
    for node, from_conv in _adds(ctx):
        for i, tensor in enumerate(node.inputs):
            skip = id(same_source(tensor)) in quantized or id(tensor) in quantized
            if skip and from_conv[1 - i] and not _is_dequantized(ctx, node):
                yield node, f"it reads '{tensor.name}' in float, which is quantized elsewhere"


def _is_dequantized(ctx: Context, node: Node) -> bool:
    return any(ctx.dequantizer(t) is not None for t in node.inputs)


def unequal_concats(ctx: Context) -> Iterator[Place]:
    """Concats of quantized tensors with different scales, unless what they write is quantized anew:
    then their own kernel gives all one scale."""
    anew = {id(same_source(q.data)) for q in ctx.quantizers if q.quantizes}
    for node in ctx.nodes:
        if node.op != "Concat" or id(node.outputs[0]) in anew:
            continue
        inputs = [ctx.dequantizer(t) for t in node.inputs]
        scales = {float(q.scale) for q in inputs if q and q.scale is not None and q.scale.ndim == 0}
        if len(scales) > 1:
            yield node, f"its inputs have {len(scales)} different scales"


def float_rest(ctx: Context) -> Iterator[Place]:
    """Graphs with Q/DQ and no half type anywhere."""
    if ctx.quantizers and not {"FLOAT16", "BFLOAT16"} & set(ctx.types.values()):
        yield None, "what is not quantized is FP32"


def dynamic_inputs(ctx: Context) -> Iterator[Place]:
    """Inputs with dimensions that are not numbers."""
    for tensor in ctx.graph.inputs:
        if tensor.shape is None or any(not isinstance(d, int) or d < 0 for d in tensor.shape):
            yield None, f"the input '{tensor.name}' has the shape {tensor.shape}"


def merged_codes(ctx: Context) -> Iterator[Place]:
    """Products that q, k and v come from, with weights stored as codes with a scale a channel."""
    for node in merged_projections(ctx.graph):
        operands = [ctx.dequantizer(t) for t in node.inputs[:2]]
        weight = next((q for q in operands if q is not None and is_constant(q.data)), None)
        if None not in operands and weight is not None and weight.per_channel:
            yield node, f"a chain of products reads its thirds, and '{weight.data.name}' is codes"


def hardware(ctx: Context) -> Iterator[Place]:
    """Types that only newer GPUs have."""
    used = dict.fromkeys(q.dtype for q in ctx.quantizers if q.dtype in HARDWARE)
    for name in used:
        yield None, f"{name} needs compute capability {HARDWARE[str(name)]}"


RULES: tuple[Rule, ...] = (
    Rule(
        "half-quantized", "slow",
        "An integer product needs both operands quantized. This op runs in float, and a "
        "separate kernel dequantizes its weight.", DOCS + "; " + SEEN,
        "quantize both inputs, or neither", half_quantized,
    ),
    Rule(
        "split-conv", "slow",
        "A Conv fuses with the BatchNormalization, Relu or Clip right behind it. TensorRT-RTX "
        "fuses in spite of this Q/DQ, and rounds once more.",
        "TensorRT documentation, Q/DQ Placement; " + SEEN,
        "quantize behind the activation", split_convs, rtx="inaccurate",
    ),
    Rule(
        "split-pad", "info",
        "TensorRT fuses a Pad into the Conv behind it. TensorRT-RTX runs the Pad on INT8 at "
        "no cost.", "TensorRT documentation, Q/DQ Placement; " + SEEN,
        "give the padding to the Conv (its pads attribute)", split_pads,
    ),
    Rule(
        "stray-identity", "slow", "An Identity can hide a Q/DQ pattern from the optimizer; "
        "TensorRT-RTX sees through it.", "TensorRT documentation, Q/DQ Placement; " + SEEN,
        "remove it (--fix does)", stray_identities, rtx="info",
    ),
    Rule(
        "two-quantizers", "slow",
        "Two scales on one tensor are two INT8 copies of it, written and read.", SEEN,
        "quantize a tensor once and let every reader share it", two_quantizers,
    ),
    Rule(
        "duplicate-quantizer", "slow",
        "The same QuantizeLinear twice; TensorRT-RTX merges them.", SEEN,
        "let every reader share one (--fix does)", duplicate_quantizers, rtx="info",
    ),
    Rule(
        "residual-both", "slow",
        "Q/DQ between the last Conv and its residual Add keeps them from fusing. TensorRT-RTX "
        "fuses, and rounds once more.", "TensorRT's tensorflow-quantization documentation; " + SEEN,
        "quantize the skip branch only", quantized_both_ways, rtx="inaccurate",
    ),
    Rule(
        "residual-float", "slow",
        "The skip tensor is quantized for another reader, so it is written in float as well "
        "for this Add.", SEEN, "let the Add read the same DequantizeLinear", float_skips,
    ),
    Rule(
        "concat-scales", "slow",
        "With unequal scales each branch is quantized again, and rounded twice.",
        "TensorRT issue 2527; " + SEEN,
        "quantize the Concat's output only, or give its inputs one scale", unequal_concats,
        rtx="inaccurate",
    ),
    Rule(
        "merged-codes", "info",
        "TensorRT splits a product that q, k and v come from in three. TensorRT-RTX first "
        "makes float of codes with a scale a channel, and multiplies in float.", SEEN,
        "write its weight as float with Q/DQ (onnxq quantize --weights-as auto)", merged_codes,
        rtx="slow",
    ),
    Rule(
        "fp32-rest", "info", "A strongly typed engine runs in FP32 what the graph says is FP32.",
        DOCS + ", Strong Typing", "quantize with --high-precision fp16", float_rest,
    ),
    Rule(
        "dynamic-shape", "info", "Dynamic inputs need an optimization profile to build.",
        "TensorRT documentation, Working with Dynamic Shapes",
        "give onnxq build --shapes name:min:opt:max", dynamic_inputs,
    ),
    Rule(
        "hardware", "info",
        "INT4 came with Ampere, FP8 with Ada and Hopper, FP4 with Blackwell.",
        "TensorRT support matrix; " + SEEN, "build for such a GPU, or use INT8", hardware,
        says=("HW-s",),
    ),
)  # fmt: skip
