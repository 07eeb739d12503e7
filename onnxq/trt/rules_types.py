"""Rules on types: of codes, of scales, and where float types meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnxq.model.geometry import CONVOLUTIONS
from onnxq.model.graph import Node
from onnxq.model.qdq import FLOATS, is_constant
from onnxq.trt.context import Context
from onnxq.trt.rule import DOCS, ONNX, SEEN, Place, Rule

SUPPORTED = frozenset({
    "FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT64", "INT32", "INT8", "UINT8", "BOOL", "INT4",
    "FLOAT8E4M3FN", "FLOAT8E8M0", "FLOAT4E2M1",
})  # fmt: skip
FP4 = "FLOAT4E2M1"  # its scales are FP32; a Cast behind it was seen to cost nothing
SCALE_TYPES = ("FLOAT", "FLOAT16", "BFLOAT16")
ALL = (0, 1, 2)
# The inputs of an op that must be of one float type.
SAME_TYPE: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu"), ALL),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization"), ALL),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Concat", "Mean"), ()),
    **dict.fromkeys(("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"), ()),
    "Where": (1, 2),
}


def unsupported_types(ctx: Context) -> Iterator[Place]:
    """Inputs, constants and Casts of a type that TensorRT does not have."""
    for tensor in ctx.graph.inputs:
        if (found := ctx.type_of(tensor)) and found not in SUPPORTED:
            yield None, f"the input '{tensor.name}' is {found}"
    for node in ctx.nodes:
        for tensor in node.inputs:
            found = ctx.type_of(tensor)
            if found and found not in SUPPORTED and is_constant(tensor):
                yield node, f"the constant '{tensor.name}' is {found}"
        found = ctx.type_of(node.outputs[0]) if node.op == "Cast" else None
        if found and found not in SUPPORTED:
            yield node, f"it casts to {found}"


def uint8_codes(ctx: Context) -> Iterator[Place]:
    """QuantizeLinear to UINT8, and its DequantizeLinear."""
    for q in ctx.quantizers:
        if q.dtype != "UINT8" or not (q.quantizes or ctx.quantizer(q.data)):
            continue
        if len(q.node.inputs) > 2 or q.node.attrs.get("output_dtype", 0):
            yield q.node, "it quantizes to UINT8" if q.quantizes else "it dequantizes UINT8"


def uint8_data(ctx: Context) -> Iterator[Place]:
    """UINT8 tensors that anything but a Cast reads, and UINT8 constants under a DQ."""
    for node in ctx.nodes:
        for tensor in node.inputs[:1]:
            if ctx.type_of(tensor) != "UINT8":
                continue
            constant = is_constant(tensor)
            before = ctx.quantizer(tensor)
            quantized = before is not None and before.quantizes
            if node.op == "DequantizeLinear" and not quantized:
                yield node, f"it dequantizes the UINT8 tensor '{tensor.name}'"
            elif not constant and not quantized and not _may_read_uint8(node, bool(tensor.inputs)):
                yield node, f"it reads the UINT8 tensor '{tensor.name}'"


def _may_read_uint8(node: Node, written: bool) -> bool:
    """An input of the model goes through a Cast; a tensor that a node wrote goes nowhere."""
    return node.op in ("Cast", "DequantizeLinear") and not written


def int32_biases(ctx: Context) -> Iterator[Place]:
    """DequantizeLinear on INT32."""
    for q in ctx.quantizers:
        if not q.quantizes and q.dtype == "INT32":
            yield q.node, f"it dequantizes the INT32 tensor '{q.data.name}'"


def scale_types(ctx: Context) -> Iterator[Place]:
    """Scales that are neither FP32, FP16 nor BF16."""
    for q in ctx.quantizers:
        found = ctx.type_of(q.node.inputs[1])
        if found and found not in SCALE_TYPES:
            yield q.node, f"its scale is {found}"


def scale_and_data_types(ctx: Context) -> Iterator[Place]:
    """A QuantizeLinear whose scale has another float type than its data."""
    for q in ctx.quantizers:
        if q.quantizes and not q.dynamic:
            types = [_as_float(ctx.type_of(t)) for t in q.node.inputs[:2]]
            if all(types) and types[0] != types[1]:
                yield q.node, f"its data is {types[0]}, its scale {types[1]}"


def mixed_types(ctx: Context) -> Iterator[Place]:
    """Ops whose inputs have several float types."""
    for node in ctx.nodes:
        if node.op not in SAME_TYPE:
            continue
        places = SAME_TYPE[node.op] or range(len(node.inputs))
        read = [node.inputs[i] for i in places if i < len(node.inputs)]
        types = dict.fromkeys(t for x in read if (t := _as_float(ctx.type_of(x))))
        if len(types) > 1:
            yield node, f"its inputs are {' and '.join(types)}"


def _as_float(name: str | None) -> str | None:
    """A float type as TensorRT holds it (DOUBLE becomes FLOAT); None for any other type."""
    if name not in FLOATS:
        return None
    return "FLOAT" if name == "DOUBLE" else name


def mixed_codes(ctx: Context) -> Iterator[Place]:
    """Weighted ops whose two operands are quantized to types that no kernel multiplies."""
    for node, operands in ctx.weighted():
        types = [q.dtype.lstrip("U") for q in operands if q is not None and q.dtype]
        if (
            FP4 in types
            or len(types) < 2
            or types[0] == types[1]
            or not SUPPORTED.issuperset(types)
        ):
            continue
        weight = operands[1]
        unpacked = types == ["INT8", "INT4"] and weight is not None and weight.per_channel
        if not unpacked or node.op in CONVOLUTIONS:
            yield node, f"its operands are quantized to {types[0]} and {types[1]}"


def casts_behind(ctx: Context) -> Iterator[Place]:
    """Products that read what a DequantizeLinear gives through a Cast."""
    for node, operands in ctx.weighted():
        for tensor, q in zip(node.inputs[:2], operands, strict=True):
            before = ctx.dequantizer(tensor, ("Identity", "Cast")) if q is None else None
            if before is not None and before.dtype != FP4:
                yield node, f"it reads '{before.out.name}' through a Cast"


RULES: tuple[Rule, ...] = (
    Rule(
        "uint8-data", "refused",
        "TensorRT takes UINT8 only as an input of the engine that is cast at once.",
        DOCS + "; " + SEEN, "store INT8 codes around 0 (around 128: --fix), or cast the input",
        uint8_data, says=("UINT8", "type UInt8"),
    ),
    Rule(
        "uint8", "refused",
        "A GPU quantizes to INT8 only. TensorRT-RTX reads UINT8 with zero point 0 as INT8, "
        "and clamps to 127 what ran to 255.", DOCS + "; " + SEEN,
        "it was made for ONNX Runtime: quantize with --target tensorrt (around 128: --fix)",
        uint8_codes,
        rtx="inaccurate", says=("UINT8",),
    ),
    Rule(
        "int32-bias", "refused",
        "DequantizeLinear takes no INT32; biases are added in float.", DOCS + "; " + SEEN,
        "keep biases float (--fix does; ONNX Runtime: QuantizeBias=False)", int32_biases,
        says=("has type Int32 but must have type",),
    ),
    Rule(
        "type", "refused", "TensorRT has no such type.", DOCS + "; " + SEEN,
        "use INT8, FP8 E4M3 or INT4 codes (INT16 is for ONNX Runtime), and INT32 or INT64 for "
        "other integers",
        unsupported_types,
        says=("Failed to import initializer", "Failed to convert ONN",
              "Unsupported data type for the Cast"),
    ),
    Rule(
        "scale-type", "refused",
        "A scale is FP32, FP16 or BF16; TensorRT-RTX demotes a DOUBLE without a word.", ONNX,
        "write the scale as FP32", scale_types, rtx="info",
    ),
    Rule(
        "scale-data-type", "refused",
        "In a strongly typed graph a scale has the type of its data. TensorRT-RTX takes "
        "others; the DequantizeLinear then writes the scale's type.",
        DOCS + ", Strong Typing; " + ONNX, "cast the scale to the type of the data",
        scale_and_data_types, rtx="info",
    ),
    Rule(
        "mixed-types", "refused",
        "A strongly typed network inserts no casts, so all float inputs of an op must have "
        "one type.",
        DOCS + ", Strong Typing; " + SEEN, "insert a Cast, or give the scales the type of the data",
        mixed_types,
        says=("must be of same type", "must have same input types", "of same types",
              "identical types", "all be of the same type", "either all FLOAT or all FLOAT16"),
    ),
    Rule(
        "cast-behind", "slow",
        "A Cast between a DequantizeLinear and a product keeps them from fusing: the product "
        "runs in float.", SEEN,
        "give the DequantizeLinear a scale of the type that the product computes in", casts_behind,
    ),
    Rule(
        "mixed-codes", "refused",
        "No kernel multiplies INT8 by FP8, or either by INT4. MatMul and Gemm run INT8 by "
        "INT4 with a scale a channel, but a separate kernel unpacks the weight.", SEEN,
        "quantize both operands to one type; 4-bit codes fit into INT8 and FP8", mixed_codes,
        says=(r"dtype == W\.type", r"cudnn_impl\.cpp"),
    ),
)  # fmt: skip
