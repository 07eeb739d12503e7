"""Small graphs, good ones and ones with a planted fault, each with the rules it must trip.

Every graph is ONNX text over one pool of constants; a case overrides the constants it spoils.
Nodes are named after what they write. `Case.rules` lists the rules of severity refused, slow and
inaccurate that lint must report, no more and no less.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from ml_dtypes import bfloat16, float4_e2m1fn, float8_e4m3fn, float8_e5m2, int4, uint4
from onnx.numpy_helper import from_array

RNG = np.random.default_rng(0)
I8, U8, F16, F32 = np.int8, np.uint8, np.float16, np.float32
IMAGE = "float[1,16,8,8] x"
HALF = "float16[1,16,8,8] x"
MATRIX = "float[4,16] x"
WIDE = "float[4,256] x"


@dataclass(frozen=True)
class Case:
    """A graph as ONNX text, and the rules it breaks."""

    body: str
    rules: tuple[str, ...] = ()
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    opset: int = 21
    inputs: str = IMAGE
    outputs: str = "float y"


def codes(*shape: int) -> np.ndarray:
    """Random INT8 weights."""
    return RNG.integers(-127, 128, shape).astype(I8)


def small(*shape: int) -> np.ndarray:
    """Random INT4 weights."""
    return RNG.integers(-7, 8, shape).astype(int4)


def full(*shape: int, value: float = 0.01) -> np.ndarray:
    """A scale with one value for all channels."""
    return np.full(shape, value, F32)


def but(value: float) -> np.ndarray:
    """A scale for 16 channels with one of them spoilt."""
    return np.where(np.arange(16) == 3, value, 0.01).astype(F32)


POOL: dict[str, np.ndarray] = {
    "s": F32(0.05), "s2": F32(0.07), "z": I8(0), "zero": F32(0), "c127": F32(127),
    "w": codes(16, 16, 3, 3), "ws": full(16), "wz": np.zeros(16, I8), "wt": F32(0.01),
    "wf": RNG.normal(size=(16, 16, 3, 3)).astype(F32), "b": np.zeros(16, F32),
    "one": np.ones(16, F32), "m": codes(16, 32), "ms": full(32), "mz": np.zeros(32, I8),
    "q4": small(256, 64), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
}  # fmt: skip

X = "xq = QuantizeLinear (x, s, z) xd = DequantizeLinear (xq, s, z) "
W = "wd = DequantizeLinear <axis=0> (w, ws, wz) "
PAD = "<pads=[1,1,1,1]>"
CONV = f"{X}{W}y = Conv {PAD} (xd, wd)"
PER_TENSOR = f"{X}wd = DequantizeLinear (w, wt, z) y = Conv {PAD} (xd, wd)"
GEMM = X + "wd = DequantizeLinear <axis=%d> (m, ms, mz) y = Gemm <transB=%d> (xd, wd)"
MATMUL = X + "wd = DequantizeLinear <axis=1> (m, ms, mz) y = MatMul (xd, wd)"
BLOCKS = "wd = DequantizeLinear <axis=%d, block_size=%d> (q4, bs) y = MatMul (x, wd)"
DECONV = "y = ConvTranspose <strides=[2,2]> (xd, wd)"
SCALE = CONV.replace("s, z)", "sc, z)")
BRANCH = (
    "c = ReduceMax <keepdims=0> (x) d = Cast <to=9> (c) y = If (d) <then_branch = t () => "
    "(float[1,16,8,8] a) { %s }, else_branch = e () => (float[1,16,8,8] b2) { b2 = Relu (x) }>"
)
CONSTANTS = "sc = Constant <value = float {0.05}> () zc = Constant <value = int8 {%d}> () "
X4 = (
    "xq, xb = trt.TRT_FP4DynamicQuantize <axis=-1, block_size=16, scale_type=17> (x, s) "
    "xs = DequantizeLinear (xb, s) xd = DequantizeLinear <axis=-1, block_size=16> (xq, xs) "
)
W4 = "wv = DequantizeLinear (wb, s) wd = DequantizeLinear <axis=%d, block_size=16> (w4, wv) "
LOCAL = CONSTANTS + "aq = QuantizeLinear (x, sc, zc) a = DequantizeLinear (aq, sc, zc)"


def model(case: Case) -> onnx.ModelProto:
    """The ONNX model of a case; only the constants that its text names go in."""
    domains = f'"": {case.opset}, "com.microsoft": 1, "my": 1, "trt": 1'
    head = f"<ir_version: 10, opset_import: [{domains}]> "
    made = onnx.parser.parse_model(
        f"{head} g ({case.inputs}) => ({case.outputs}) {{ {case.body} }}"
    )
    for node in made.graph.node:
        node.name = node.output[0]
    for dim in (d for i in made.graph.input for d in i.type.tensor_type.shape.dim):
        if dim.dim_param == "ANY":
            dim.dim_param = "?"  # which the text has no form for
    given = {i.name for i in made.graph.input}
    for name, values in {**POOL, **case.weights}.items():
        if name not in given and re.search(rf"\b{name}\b", case.body):
            made.graph.initializer.append(from_array(np.asarray(values), name))
    return made


def conv(*rules: str, opset: int = 21, **weights: np.ndarray) -> Case:
    """The good Conv with other constants."""
    return Case(CONV, rules, weights, opset)


def grouped(channels: int, outputs: int, group: int, *rules: str) -> Case:
    """A grouped Conv."""
    shapes = {"w": codes(outputs, channels // group, 3, 3), "ws": full(outputs)}
    return Case(
        f"{X}{W}y = Conv <pads=[1,1,1,1], group={group}> (xd, wd)", rules,
        {**shapes, "wz": np.zeros(outputs, I8)}, inputs=f"float[1,{channels},8,8] x",
    )  # fmt: skip


def blocks(size: int, *rules: str, axis: int = 0, opset: int = 21) -> Case:
    """A MatMul with INT4 weights in blocks."""
    shape = [256, 64]
    shape[axis] = -(-shape[axis] // size)
    return Case(BLOCKS % (axis, size), rules, {"bs": full(*shape)}, opset, WIDE)


def gemm(axis: int, transposed: int, *rules: str) -> Case:
    """A Gemm whose 32 x 16 (or 16 x 32) weight is quantized along an axis."""
    shape = (32, 16) if transposed else (16, 32)
    n = shape[axis]
    weights = {"m": codes(*shape), "ms": full(n), "mz": np.zeros(n, I8)}
    return Case(GEMM % (axis, transposed), rules, weights, inputs=MATRIX)


def in_float8(*rules: str, opset: int = 21, inputs: str = IMAGE, **weights: np.ndarray) -> Case:
    """The good Conv in FP8."""
    codes8 = {"w": POOL["wf"].astype(float8_e4m3fn), "wz": np.zeros(16, float8_e4m3fn)}
    return Case(CONV, rules, {"z": float8_e4m3fn(0), **codes8, **weights}, opset, inputs)


def in_float4(
    *rules: str,
    x: str = X4,
    w: str = W4 % 0,
    blocks: tuple[int, int] = (4, 32),
    shape: str = "2,8,64",
) -> Case:
    """A MatMul of FP4 by FP4, or of what `x` and `w` make of its operands."""
    weights = {"w4": RNG.integers(-6, 7, (64, 32)).astype(float4_e2m1fn), "s": F32(0.001),
               "wb": np.full(blocks, 448, float8_e4m3fn), "z": float8_e4m3fn(0)}  # fmt: skip
    return Case(f"{x}{w}y = MatMul (xd, wd)", rules, weights, 23, f"float[{shape}] x")


GOOD = {
    "conv": conv(), "per tensor": Case(PER_TENSOR), "opset 13": conv(opset=13),
    "opset 25": conv(opset=25), "fp4": in_float4(), "float": Case("y = Relu (x)"),
    "float weight": Case(X + "wq = QuantizeLinear <axis=0> (wf, ws, wz) wd = DequantizeLinear "
                         f"<axis=0> (wq, ws, wz) y = Conv {PAD} (xd, wd)"),
    "negative axis": Case(CONV.replace("axis=0", "axis=-4")),
    "no weight zero point": Case(CONV.replace(", wz", "")),
    "Concat that is quantized anew": Case(
        X + "r = Relu (x) rq = QuantizeLinear (r, s2, z) rd = DequantizeLinear (rq, s2, z) "
        "c = Concat <axis=1> (xd, rd) cq = QuantizeLinear (c, s, z) "
        "y = DequantizeLinear (cq, s, z)"),
    "constant scale": Case("sc = Constant <value_float=0.05> () " + SCALE),
    "folded scale": Case("sc = Div (c6, c127) " + SCALE, weights={"c6": F32(6)}),
    "constant nodes": Case(
        "zi = Constant <value = int8 {0}> () t = Constant <value = int8[2] {1, 2}> () "
        "k = DequantizeLinear (t, s, zi) y = Concat <axis=0> (x, k)", inputs="float[4] x"),
    "cast scale": Case("sc = Cast <to=1> (half) " + SCALE, weights={"half": F16(0.05)}),
    "tiny scale": conv(ws=but(1e-9)),
    "identity zero point": Case(CONV.replace("xq =", "zc = Identity (z) xq =").replace(
        "s, z)", "s, zc)")),
    "output_dtype": Case(CONV.replace("(x, s, z)", "<output_dtype=3> (x, s)")),
    "fp16": Case(CONV, (), {"s": F16(0.1), "ws": full(16).astype(F16)}, inputs=HALF,
                 outputs="float16 y"),
    "int8 bias": Case(CONV.replace(", wd)", ", wd, bd)").replace(
        "y =", "bd = DequantizeLinear <axis=0> (bq, ws, wz) y ="), weights={"bq": codes(16)}),
    "matmul": Case(MATMUL, inputs=MATRIX), "gemm": gemm(1, 0), "gemm transposed": gemm(0, 1),
    "left constant": Case(X + "wd = DequantizeLinear <axis=0> (m, ms, mz) y = MatMul (wd, xd)",
                          (), {"ms": full(16), "mz": np.zeros(16, I8)}, inputs="float[32,4] x"),
    "one channel": conv(w=codes(1, 16, 3, 3), ws=full(1), wz=np.zeros(1, I8)),
    "weight scale of shape [1]": Case(PER_TENSOR, (), {"wt": full(1)} | {"wz": np.zeros(1, I8)}),
    "weight behind Transpose": Case(
        X + "wd = DequantizeLinear <axis=0> (m, ms, mz) t = Transpose <perm=[1,0]> (wd) "
        "y = MatMul (xd, t)", (), {"m": codes(32, 16)}, inputs=MATRIX),
    "pad between": Case(X + W + "p = Pad (xd, pads) y = Conv (p, wd)"),
    "codes pooled": Case(f"xq = QuantizeLinear (x, s, z) p = MaxPool <kernel_shape=[2,2]> (xq) "
                         f"xd = DequantizeLinear (p, s, z) {W}y = Conv {PAD} (xd, wd)"),
    "int8 input": Case("y = DequantizeLinear (x, s, z)", inputs="int8[4] x"),
    "cast uint8 input": Case("y = Cast <to=1> (x)", inputs="uint8[4] x"),
    "computed kernel": Case(
        X + "vq = QuantizeLinear <axis=0> (v, ws, wz) vd = DequantizeLinear <axis=0> (vq, ws, wz) "
        "y = Conv (xd, vd)", inputs=f"{IMAGE}, float[16,16,1,1] v"),
    "depthwise": grouped(16, 16, 16), "four per group": grouped(16, 16, 4),
    "fp8": in_float8(), "fp8 without zero points": Case(
        f"xq = QuantizeLinear <output_dtype=17> (x, s) xd = DequantizeLinear (xq, s) "
        f"wd = DequantizeLinear <axis=0> (w, ws) y = Conv {PAD} (xd, wd)", (),
        {"w": POOL["wf"].astype(float8_e4m3fn)}),
    "weight only": Case(W + f"y = Conv {PAD} (x, wd)"),
    "int4 conv": Case("wd = DequantizeLinear <axis=0> (w, ws) y = Conv (x, wd)", (),
                      {"w": small(16, 16, 3, 3)}),
     "int4 blocks of 64": blocks(64), "int4 blocks of 128": blocks(128),
    "int4 x int8": Case(X + "wd = DequantizeLinear <axis=1> (q4, bs) y = MatMul (xd, wd)", (),
                        {"bs": full(64)}, inputs=WIDE),
    "int4 in fp16": Case(BLOCKS % (0, 64), (), {"bs": full(4, 64).astype(F16)},
                         inputs="float16[4,256] x", outputs="float16 y"),
    "branch": Case(BRANCH % (LOCAL % 0)),
    "constant of a branch": Case(BRANCH % "a = Add (x, k)", weights={"k": F32(1)}),
    "double": Case("y = Add (x, k)", weights={"k": np.ones(1)}),
    "known contrib op": Case("y = com.microsoft.Gelu (x)"),
    "dynamic": Case(CONV, inputs="float[N,16,H,W] x"),
}  # fmt: skip

I32 = {"bq": np.arange(16, dtype=np.int32), "bs": full(16, value=5e-4)}
BIAS = f"{X}{W}bd = DequantizeLinear <axis=0> (bq, bs) y = Conv {PAD} (xd, wd, bd)"
TWICE = (f"{X}xq2 = QuantizeLinear (x, %s, z) xd2 = DequantizeLinear (xq2, %s, z) {W}"
         f"a = Conv {PAD} (xd, wd) c = Conv {PAD} (xd2, wd) y = Mul (a, c)")  # fmt: skip
RESIDUAL = (f"{X}{W}c = Conv {PAD} (xd, wd) cq = QuantizeLinear (c, s2, z) "
            "cd = DequantizeLinear (cq, s2, z) y = Add (%s)")  # fmt: skip
BETWEEN = (f"{X}{W}c = Conv (xd, wd) cq = QuantizeLinear (c, s2, z) "
           "cd = DequantizeLinear (cq, s2, z) y = %s")  # fmt: skip
SCALAR = "k = DequantizeLinear (q, s, z) y = "
UINT8_IN = {"inputs": "uint8[1,16,8,8] x"}
MICROSOFT = re.sub(r"(Quant|Dequant)", r"com.microsoft.\1", CONV)

FAULTS = {
    "zero scale": conv("zero-scale", s=F32(0)),
    "one zero scale": conv("zero-scale", ws=but(0)),
    "FP16 zero scale": Case(CONV, ("zero-scale",), {"s": F16(0.1), "ws": np.full(16, 1e-9, F16)},
                            inputs=HALF, outputs="float16 y"),
    "negative scale": conv("negative-scale", s=F32(-0.1)),
    "NaN scale": conv("non-finite-scale", ws=but(np.nan)),
    "infinite scale": conv("non-finite-scale", s=F32(np.inf)),
    "casts behind": Case(f"{X}xc = Cast <to=10> (xd) {W}wc = Cast <to=10> (wd) "
                         f"y = Conv {PAD} (xc, wc)", ("cast-behind",), outputs="float16 y"),
    "zero codes": conv("zero-codes", w=np.zeros((16, 16, 3, 3), I8)),
    "NaN bias": Case(CONV.replace("wd)", "wd, b)"), ("non-finite-weight",), {"b": but(np.nan)}),
    "weight below its steps": Case(
        X + "wq = QuantizeLinear <axis=0> (wf, ws, wz) wd = DequantizeLinear <axis=0> (wq, ws, wz) "
        f"y = Conv {PAD} (xd, wd)", ("zero-codes",), {"ws": full(16, value=1e3)}),
    "sums beyond INT32": Case(
        X + "wd = DequantizeLinear <axis=1> (m, ms, mz) y = MatMul (xd, wd)", ("int32-sum",),
        {"m": np.full((133_000, 32), -127, I8)}, inputs="float[4,133000] x"),
    "computed scale": Case("a = Abs (x) mx = ReduceMax <keepdims=0> (a) sc = Div (mx, c127) "
                           + SCALE, ("computed-scale",)),
    "scale as input": Case(CONV, ("computed-scale",), inputs=f"{IMAGE}, float s"),
    "zero point": conv("zero-point", z=I8(3)),
    "one weight zero point": conv("zero-point", wz=but(1).round().astype(I8)),
    "int4 zero point": Case(BLOCKS.replace("bs)", "bs, bz)") % (0, 64), ("zero-point",),
                            {"bs": full(4, 64), "bz": np.ones((4, 64), int4)}, inputs=WIDE),
    "fp8 zero point": in_float8("zero-point", z=float8_e4m3fn(1)),
    "zero point in a branch": Case(BRANCH % (LOCAL % 3), ("zero-point",)),
    "no zero point": Case(CONV.replace("(x, s, z)", "(x, s)").replace("(xq, s, z)", "(xq, s)"),
                          ("no-zero-point",)),
    "short zero point": conv("zero-point-length", wz=np.zeros(1, I8)),
    "long zero point": conv("zero-point-length", z=np.zeros(16, I8)),
    "unequal pair": Case(CONV.replace("(xq, s,", "(xq, s2,"), ("pair-scales",)),
    "uint8 weight": conv("uint8-data", w=codes(16, 16, 3, 3).view(U8), wz=np.zeros(16, U8)),
    "uint8 weight at 128": conv("zero-point", "uint8-data", w=codes(16, 16, 3, 3).view(U8),
                                wz=np.full(16, 128, U8)),
    "uint8 dequantized": Case("y = DequantizeLinear (x, s, zu)", ("uint8-data",), {"zu": U8(0)},
                              **UINT8_IN),
    "uint8 pooled": Case("t = MaxPool <kernel_shape=[2,2]> (x) y = Cast <to=1> (t)",
                         ("uint8-data",), **UINT8_IN),
    "cast to uint8 and back": Case("t = Cast <to=2> (x) y = Cast <to=1> (t)", ("uint8-data",)),
    "uint8": conv("uint8", z=U8(0)),
    "uint8 at 128": conv("zero-point", "uint8", z=U8(128)),
    "int32 bias": Case(BIAS, ("int32-bias",), I32),
    "int16": conv("type", z=np.int16(0)),
    "int16 in a Constant node": Case(
        "zs = Constant <value = int16 {0}> () xq = QuantizeLinear (x, s, zs) "
        "y = DequantizeLinear (xq, s, zs)", ("type",)),
    "uint4": Case("y = DequantizeLinear (q, s)", ("type",), {"q": np.ones(4, uint4)}),
    "fp8 e5m2": Case("y = DequantizeLinear (q, s)", ("type",), {"q": np.ones(4, float8_e5m2)}),
    "uint32 input": Case("y = Cast <to=1> (x)", ("type",), inputs="uint32[4] x"),
    "cast to int16": Case("t = Cast <to=5> (x) y = Cast <to=1> (t)", ("type",)),
    "double scale": conv("scale-type", s=np.float64(0.05)),
    "FP32 scales on FP16 data": Case(CONV, ("scale-data-type",), inputs=HALF),
    "FP16 scale of a weight": conv("mixed-types", ws=full(16).astype(F16)),
    "BF16 scale of an activation": conv("scale-data-type", "mixed-types", s=bfloat16(0.1)),
    "FP16 bias": Case(CONV.replace("wd)", "wd, b)"), ("mixed-types",), {"b": np.zeros(16, F16)}),
    "FP16 constant": Case("y = Add (x, k)", ("mixed-types",), {"k": F16(1)}),
    "FP16 into Concat": Case("h = Cast <to=10> (x) y = Concat <axis=1> (x, h)", ("mixed-types",)),
    "FP16 into Where": Case("h = Cast <to=10> (x) c = Greater (x, zero) y = Where (c, x, h)",
                            ("mixed-types",)),
    "int4 conv of int8": conv("mixed-codes", w=small(16, 16, 3, 3), wz=np.zeros(16, int4)),
    "int4 per tensor times int8": Case(X + "wd = DequantizeLinear (q4, wt) y = MatMul (xd, wd)",
                                       ("mixed-codes",), inputs=WIDE),
    "int4 times fp8": Case(X + "wd = DequantizeLinear <axis=1> (q4, bs) y = MatMul (xd, wd)",
                           ("mixed-codes",), {"bs": full(64), "z": float8_e4m3fn(0)}, inputs=WIDE),
    "int4 blocks times int8": Case(X + (BLOCKS % (0, 64)).replace("(x, wd)", "(xd, wd)"),
                                   ("block-product", "mixed-codes"), {"bs": full(4, 64)},
                                   inputs=WIDE),
    "fp8 with 8 channels in": in_float8("fp8-channels", w=POOL["wf"][:, :8].astype(float8_e4m3fn),
                                        inputs="float[1,8,8,8] x"),
    "fp8 with unlike channels": in_float8(
        "fp8-channels", w=np.ones((24, 16, 3, 3), float8_e4m3fn), ws=full(24),
        wz=np.zeros(24, float8_e4m3fn)),
    "fp8 over 7 x 7": in_float8("fp8-window", w=np.ones((16, 16, 7, 7), float8_e4m3fn)),
    "clipped codes": Case(X + "wq = QuantizeLinear <axis=0> (wf, ws, wz) wc = Clip (wq, lo, hi) "
                          f"wd = DequantizeLinear <axis=0> (wc, ws, wz) y = Conv {PAD} (xd, wd)",
                          ("clipped-codes",), {"lo": I8(-8), "hi": I8(7)}),
    "int8 times fp8": conv("mixed-codes", z=float8_e4m3fn(0)),
    "no axis": Case(CONV.replace(" <axis=0>", ""), ("missing-axis", "wrong-axis")),
    "no axis, no fit": Case(CONV.replace(" <axis=0>", ""), (
        "missing-axis", "scale-length", "wrong-axis"), {"w": codes(32, 16, 3, 3), "ws": full(32),
                                                        "wz": np.zeros(32, I8)}),
    "short scale": conv("scale-length", ws=full(8), wz=np.zeros(8, I8)),
    "axis out of range": Case(CONV.replace("axis=0", "axis=7"), ("scale-length", "wrong-axis")),
    "scale of shape [1, 1]": conv("scale-length", s=full(1, 1), z=np.zeros((1, 1), I8)),
    "empty scale": conv("scale-length", s=full(0), z=np.zeros(0, I8)),
    "axis 1 of a Conv": Case(CONV.replace("axis=0", "axis=1"), ("wrong-axis",)),
    "axis 1 of a transposed Gemm": gemm(1, 1, "wrong-axis"),
    "axis 0 of a Gemm": gemm(0, 0, "wrong-axis"),
    "axis 0 of a MatMul": Case(MATMUL.replace("axis=1", "axis=0"), ("wrong-axis",),
                               {"ms": full(16), "mz": np.zeros(16, I8)}, inputs=MATRIX),
    "activation per channel": Case(
        f"xq = QuantizeLinear <axis=1> (x, ws, wz) xd = DequantizeLinear <axis=1> (xq, ws, wz) "
        f"{W}y = Conv {PAD} (xd, wd)", ("activation-per-channel",)),
    "scale of shape [1]": conv("scale-shape", s=full(1), z=np.zeros(1, I8)),
    "blocks that do not divide": blocks(48, "block-shape", "block-size"),
    "first of three axes": Case(
        BLOCKS % (0, 64), ("block-shape",), {"q4": small(128, 8, 64), "bs": full(2, 8, 64)},
        inputs="float[128,4,8] x"),
    "scales of other blocks": Case(BLOCKS % (0, 64), ("block-shape",), {"bs": full(8, 64)},
                                   inputs=WIDE),
    "int8 blocks": Case(BLOCKS % (0, 64), ("block-type",),
                        {"q4": codes(256, 64), "bs": full(4, 64)}, inputs=WIDE),
    "int4 blocks of 32": blocks(32, "block-size"),
    "one int4 block": blocks(256, "block-size", "int4-unblocked"),
    "int4 per channel": Case("wd = DequantizeLinear <axis=1> (q4, bs) y = MatMul (x, wd)",
                             ("int4-unblocked",), {"bs": full(64)}, inputs=WIDE),
    "int4 activation": Case(X + "y = Relu (xd)", ("int4-activation",), {"z": int4(0)}),
    "QLinearConv": Case(
        "xq = QuantizeLinear (x, s, z) c = QLinearConv <pads=[1,1,1,1]> (xq, s, z, w, wt, z, s, z) "
        "y = DequantizeLinear (c, s, z)", ("integer-op",)),
    "ConvInteger": Case("xq = QuantizeLinear (x, s, z) c = ConvInteger <pads=[1,1,1,1]> (xq, w) "
                        "y = Cast <to=1> (c)", ("integer-op",)),
    "dynamic quantization": Case("xq, sc, zc = DynamicQuantizeLinear (x) y = DequantizeLinear "
                                 "(xq, sc, zc)", ("computed-scale", "integer-op", "zero-point")),
    "QLinearAdd": Case("xq = QuantizeLinear (x, s, z) a = com.microsoft.QLinearAdd "
                       "(xq, s, z, xq, s, z, s, z) y = DequantizeLinear (a, s, z)",
                       ("integer-op",)),
    "com.microsoft": Case(MICROSOFT, ("qdq-domain",)),
    "custom op": Case("y = my.Foo (x)", ("custom-op",)),
    "contrib op": Case("y = com.microsoft.QuickGelu (x)", ("custom-op",)),
    "op that onnx does not know": Case("y = Foo (x)", ("custom-op",)),
    "fused op": Case('y = com.microsoft.FusedConv <activation="Relu"> (x, wf)',
                     ("optimized-op",)),
    "BatchNormalization with its statistics": Case(
        "y, mean, var = BatchNormalization <training_mode=1> (x, one, b, b, one)",
        ("batchnorm-outputs",), outputs="float y, float mean, float var"),
    "BatchNormalization of opset 12 with its statistics": Case(
        "y, m1, v1, m2, v2 = BatchNormalization (x, one, b, b, one)",
        ("batchnorm-outputs",), opset=12, outputs="float y, float m1"),
    "axes without a name": Case("y = Relu (x)", ("axis-name",), inputs="float[1,16,ANY,ANY] x"),
    "Compress": Case("y = Compress (x, k)", ("unsupported-op",), {"k": np.array([True])}),
    "opset 12": conv("opset", opset=12), "opset 26": conv("opset", opset=26),
    "fp8 at 17": in_float8("opset", opset=17), "int4 at 19": blocks(64, "opset", opset=19),
    "fp16 scale at 17": Case(CONV, ("opset",), {"s": F16(0.1), "ws": full(16).astype(F16)}, 17,
                             HALF, "float16 y"),
    "six per group": grouped(12, 12, 2, "channels-per-group"),
    "depthwise with two outputs": grouped(16, 32, 16, "channels-per-group"),
    "deconv": Case(PER_TENSOR.split("y =")[0] + DECONV, ("deconv",)),
    "deconv on axis 1": Case(CONV.split("y =")[0].replace("axis=0", "axis=1") + DECONV,
                             ("deconv",)),
    "quantized scalar": Case(SCALAR + "Add (x, k)", ("scalar-constant",), {"q": I8(5)}),
    "quantized fill of a Pad": Case(SCALAR + "Pad (x, pads, k)", ("scalar-constant",),
                                    {"q": I8(0)}),
    "quantized constant in a Concat": Case(
        f"k = DequantizeLinear (q, s, z) {X}a = Concat <axis=1> (xd, k) aq = QuantizeLinear "
        "(a, s, z) y = DequantizeLinear (aq, s, z)", ("concat-constant",),
        {"q": codes(1, 16, 8, 8)}),
    "int8 constant": Case("t = Cast <to=1> (q) y = Add (x, t)", ("int8-constant",),
                          {"q": codes(8)}),
    "codes computed on": Case("xq = QuantizeLinear (x, s, z) a = Add (xq, xq) y = DequantizeLinear "
                              "(a, s, z)", ("no-dequantize",)),
    "weight only beside INT8": Case(f"{X}{W}a = Conv {PAD} (xd, wd) y = Conv {PAD} (a, wd)",
                                    ("half-quantized",)),
    "activation only": Case(X + f"y = Conv {PAD} (xd, wf)", ("half-quantized",)),
    "before Relu": Case(BETWEEN % "Relu (cd)", ("split-conv",)),
    "before BatchNormalization": Case(BETWEEN % "BatchNormalization (cd, one, b, b, one)",
                                      ("split-conv",)),
    "Identity": Case(CONV.replace(
        "y =", "xi = Identity (xd) y =").replace("(xd, wd)", "(xi, wd)"), ("stray-identity",)),
    "two scales": Case(TWICE % ("s2", "s2"), ("two-quantizers",)),
    "one scale twice": Case(TWICE % ("s", "s"), ("duplicate-quantizer",)),
    "both branches": Case(RESIDUAL % "cd, xd", ("residual-both",)),
    "float skip": Case(f"{X}{W}c = Conv {PAD} (xd, wd) y = Add (c, x)", ("residual-float",)),
    "fp4 in blocks of 32": in_float4("fp4-blocks", x=X4.replace("=16, scale", "=32, scale")),
    "fp4 of four dimensions": in_float4("fp4-shape", shape="1,2,8,64"),
    "fp4 times fp8": in_float4("fp4-product", x=X),
    "fp4 in blocks of outputs": in_float4("fp4-product", w=W4 % 1, blocks=(64, 2)),
    "unequal Concat": Case(X + "r = Relu (x) rq = QuantizeLinear (r, s2, z) rd = DequantizeLinear "
                           "(rq, s2, z) y = Concat <axis=1> (xd, rd)", ("concat-scales",)),
}  # fmt: skip

CASES: Mapping[str, Case] = {**GOOD, **FAULTS}
