"""Rules on ops, opsets and where constants stand."""

from __future__ import annotations

from collections.abc import Iterator

from onnxq.model.flow import SAME, SUBSET
from onnxq.model.graph import Node, constant_of, is_standard
from onnxq.model.qdq import is_constant, is_qdq
from onnxq.trt.context import Context, label
from onnxq.trt.rule import DOCS, ONNX, SEEN, Place, Rule

INTEGER_PREFIXES = ("QLinear", "DynamicQuantize")
INTEGER_OPS = frozenset({
    "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QAttention",
    "QOrderedMatMul", "QEmbedLayerNormalization", "MulInteger",
})  # fmt: skip
# ONNX ops without an importer in the parser of TensorRT-RTX 1.7 (asked with supports_operator).
UNSUPPORTED = frozenset({
    "AffineGrid", "Bernoulli", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
    "BitwiseXor", "CenterCropPad", "Col2Im", "Compress", "ConcatFromSequence", "CumProd", "DFT",
    "DeformConv", "Det", "ImageDecoder", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix",
    "Multinomial", "NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement",
    "OptionalHasElement", "RegexFullMatch", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
    "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss",
    "SplitToSequence", "StringConcat", "StringNormalizer", "StringSplit", "SwiGLU",
    "TfIdfVectorizer", "Unique",
})  # fmt: skip
FIRST_OPSET, LAST_OPSET = 9, 25  # of the parser of TensorRT 11
TYPE_OPSETS = {"FLOAT8E4M3FN": 19, "INT4": 21, "FLOAT4E2M1": 23}
MOVES = (*SAME, *SUBSET, "Concat", "DequantizeLinear", "Cast", "ScatterND", "Shape", "Size", "Pad")


def is_integer(node: Node) -> bool:
    """Whether a node computes on integers, where TensorRT wants Q/DQ."""
    return node.op.startswith(INTEGER_PREFIXES) or node.op in INTEGER_OPS


def integer_ops(ctx: Context) -> Iterator[Place]:
    """Ops on integers instead of Q/DQ."""
    for node in ctx.nodes:
        if is_integer(node):
            yield node, "an integer op"


def foreign_qdq(ctx: Context) -> Iterator[Place]:
    """Q/DQ of another domain than ONNX's."""
    for q in ctx.quantizers:
        if not is_standard(q.node) and not q.dynamic:
            yield q.node, f"it is of the domain '{q.node.domain}'"


def unsupported_ops(ctx: Context) -> Iterator[Place]:
    """ONNX ops that the parser does not have."""
    for node in ctx.nodes:
        if is_standard(node) and node.op in UNSUPPORTED:
            yield node, f"TensorRT's parser has no '{node.op}'"


def opsets(ctx: Context) -> Iterator[Place]:
    """An opset that the parser does not take, or that does not hold what the graph uses."""
    if not FIRST_OPSET <= ctx.opset <= LAST_OPSET:
        yield None, f"opset {ctx.opset}, the parser takes {FIRST_OPSET} to {LAST_OPSET}"
    for q in ctx.quantizers:
        needed = 10
        if q.per_channel or q.axis is not None:
            needed = 13
        if q.quantizes and ctx.type_of(q.node.inputs[1]) in ("FLOAT16", "BFLOAT16"):
            needed = 19
        needed = max(needed, TYPE_OPSETS.get(q.dtype or "", 0), 21 if q.block_size else 0)
        needed = max(needed, 21 if q.node.attrs.get("output_dtype", 0) else 0)
        if ctx.opset < needed and is_standard(q.node):
            yield q.node, f"it needs opset {needed}, the graph has {ctx.opset}"


def ragged_groups(ctx: Context) -> Iterator[Place]:
    """Quantized grouped convolutions whose channels per group are no multiple of 4."""
    for node, operands in ctx.weighted():
        group = int(node.attrs.get("group", 1))
        codes = None if operands[1] is None else ctx.source(operands[1])
        if node.op != "Conv" or group == 1 or operands[0] is None or codes is None:
            continue
        outer, inner = [*(codes.shape or ()), None, None][:2]
        if not isinstance(outer, int) or not isinstance(inner, int):
            continue
        per_group = (inner, outer // group)
        if per_group != (1, 1) and any(c % 4 for c in per_group):
            yield node, f"{per_group[0]} channels in and {per_group[1]} out a group"


def quantized_deconvs(ctx: Context) -> Iterator[Place]:
    """ConvTranspose under Q/DQ."""
    for node, operands in ctx.weighted():
        if node.op == "ConvTranspose" and any(q is not None for q in operands):
            yield node, "a ConvTranspose reads Q/DQ"


def scalar_constants(ctx: Context) -> Iterator[Place]:
    """Quantized constants without a dimension."""
    for q in ctx.quantizers:
        stored = not q.quantizes and is_constant(q.data) and not q.data.shape
        codes = constant_of(q.data) if stored else None
        if codes is not None and codes.ndim == 0 and q.dtype == "INT8":
            yield q.node, f"'{q.data.name}' is a quantized scalar"


def concat_constants(ctx: Context) -> Iterator[Place]:
    """Quantized constants that a Concat with a quantized output reads."""
    for node in ctx.nodes:
        if node.op != "Concat" or not any(is_qdq(n) for n in node.outputs[0].outputs):
            continue
        for tensor in node.inputs:
            dq = ctx.dequantizer(tensor)
            if dq is not None and is_constant(dq.data):
                yield dq.node, f"the Concat '{label(node)}' reads this quantized constant"


def int8_constants(ctx: Context) -> Iterator[Place]:
    """INT8 constants that anything but a DequantizeLinear reads."""
    for node in ctx.nodes:
        for i, tensor in enumerate(node.inputs):
            if is_qdq(node) or is_integer(node):
                continue
            if not is_constant(tensor) or ctx.type_of(tensor) != "INT8" or _gives_zero_points(node):
                continue
            if node.op == "Clip" and i > 0:  # its bounds: clipped-codes speaks of them
                continue
            yield node, f"input {i}, '{tensor.name}', is an INT8 constant"


def _gives_zero_points(node: Node) -> bool:
    """Whether only the zero points of Q/DQ are made of a node's outputs."""
    readers = [(n, t) for t in node.outputs for n in t.outputs]
    return all(is_qdq(n) and len(n.inputs) > 2 and n.inputs[2] is t for n, t in readers)


def undequantized(ctx: Context) -> Iterator[Place]:
    """Ops that compute on what a QuantizeLinear wrote."""
    for q in ctx.quantizers:
        for node in q.out.outputs if q.quantizes else ():
            if node.op not in (*MOVES, "Clip") and not is_integer(node):  # Clip: clipped-codes
                yield node, f"it computes on the codes '{q.out.name}'"


RULES: tuple[Rule, ...] = (
    Rule(
        "integer-op", "refused", "TensorRT reads Q/DQ around float ops, not integer ops.",
        DOCS + "; " + SEEN,
        "write Q/DQ (ONNX Runtime: QuantFormat.QDQ, quantize_static)", integer_ops,
        says=("^false$", "No importer registered", "Plugin not found"),
    ),
    Rule(
        "qdq-domain", "refused",
        "Q/DQ are ops of ONNX's own domain. TensorRT-RTX takes any domain.",
        DOCS + "; " + SEEN, "write them in the default domain (16-bit types need opset 21)",
        foreign_qdq, rtx="info", says=("No importer registered",),
    ),
    Rule(
        "unsupported-op", "refused", "The parser has no importer for this op.",
        "TensorRT's ONNX parser; " + SEEN, "export the model without it, or cut it off the graph",
        unsupported_ops, says=("^false$", "No importer registered", "Plugin not found"),
    ),
    Rule(
        "opset", "refused",
        "Per-channel Q/DQ came with opset 13, FP8 and 16-bit float scales with 19, INT4 and blocks "
        "with 21; TensorRT-RTX reads them at any.", ONNX + "; " + SEEN,
        "raise the opset (onnx.version_converter)", opsets, rtx="info",
    ),
    Rule(
        "channels-per-group", "refused",
        "INT8 kernels of grouped convolutions need a multiple of 4 channels a group, in and "
        "out. TensorRT-RTX pads them.", "TensorRT issue threads; " + SEEN,
        "leave this Conv float", ragged_groups, rtx="slow", says=("[Cc]ould not find any impl",),
    ),
    Rule(
        "deconv", "slow",
        "ConvTranspose runs in float whatever the axis, and a separate kernel dequantizes its "
        "weight. Grouped or per channel, TensorRT refuses it.",
        SEEN + "; TensorRT issues 1934, 2380", "leave ConvTranspose float", quantized_deconvs,
        says=("[Cc]ould not find any impl",),
    ),
    Rule(
        "scalar-constant", "refused",
        "TensorRT reshapes a quantized constant without dimensions before its "
        "DequantizeLinear, which its optimizer forbids.", SEEN,
        "keep scalar constants float (--fix does)",
        scalar_constants, says=("Quantized constant",),
    ),
    Rule(
        "concat-constant", "refused",
        "A quantized constant in a Concat with a quantized output can stop the builder; the "
        "order of the nodes decides.", SEEN,
        "keep the constant float (--fix does)", concat_constants, says=(r"operand\.h",),
    ),
    Rule(
        "int8-constant", "refused",
        "INT8 constants are only allowed under a DequantizeLinear.", SEEN,
        "store it as INT32, or dequantize it", int8_constants, says=("Quantized constant",),
    ),
    Rule(
        "no-dequantize", "refused",
        "Between a QuantizeLinear and its DequantizeLinear data may only move. TensorRT-RTX "
        "takes more.", DOCS + "; " + ONNX,
        "put the DequantizeLinear right behind the QuantizeLinear", undequantized, rtx="info",
    ),
)  # fmt: skip
