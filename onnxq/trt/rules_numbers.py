"""Rules on the values of scales and zero points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxq.arrays import Array
from onnxq.model.graph import Node, constant_of
from onnxq.model.qdq import Quantizer
from onnxq.trt.context import Context
from onnxq.trt.rule import DOCS, ONNX, SEEN, Place, Rule

CENTRE = 128  # the zero point that makes UINT8 codes those of INT8, shifted


def _scales(ctx: Context) -> Iterator[tuple[Quantizer, Array]]:
    for q in ctx.quantizers:
        if q.scale is not None and q.scale.dtype.kind in "fV":
            yield q, q.scale.astype(np.float64)


def _where(bad: Array, value: float) -> str:
    if bad.size == 1:
        return f"the scale is {value:.3g}"
    return f"{int(bad.sum())} of {bad.size} scales, the first at {int(bad.argmax())}: {value:.3g}"


def _report(q: Quantizer, scale: Array, bad: Array) -> Iterator[tuple[Node, str]]:
    if bad.any():
        yield q.node, _where(bad, float(scale[bad].ravel()[0]))


def zero_scales(ctx: Context) -> Iterator[Place]:
    """Scales that are zero."""
    for q, scale in _scales(ctx):
        yield from _report(q, scale, scale == 0)


def negative_scales(ctx: Context) -> Iterator[Place]:
    """Scales below zero."""
    for q, scale in _scales(ctx):
        yield from _report(q, scale, scale < 0)


def non_finite_scales(ctx: Context) -> Iterator[Place]:
    """Scales that are NaN or infinite."""
    for q, scale in _scales(ctx):
        yield from _report(q, scale, ~np.isfinite(scale))


def underflowing_scales(ctx: Context) -> Iterator[Place]:
    """Positive scales that FP16 rounds to zero."""
    for q, scale in _scales(ctx):
        with np.errstate(over="ignore"):
            half = np.where(np.isfinite(scale), scale, 1).astype(np.float16)
        yield from _report(q, scale, (scale > 0) & (half == 0))


def zero_codes(ctx: Context) -> Iterator[Place]:
    """Weights of which no code is anything but zero."""
    for node, operands in ctx.weighted():
        for q in operands:
            if (
                q is None
                or not ctx.is_weight(q)
                or (q.zero_point is not None and q.zero_point.any())
            ):
                continue
            values = constant_of(ctx.source(q))
            if values is not None and values.size and _all_zero(q, values):
                yield node, f"every code of its weight '{ctx.source(q).name}' is 0"


def _all_zero(q: Quantizer, values: Array) -> bool:
    """Whether stored codes are, or what the least scale makes of a float weight behind a Q."""
    if values.dtype.kind != "f":
        return not values.any()
    return q.scale is not None and bool(2 * np.abs(values).max() <= q.scale.min())


def computed_scales(ctx: Context) -> Iterator[Place]:
    """Scales that depend on an input of the model."""
    for q in ctx.quantizers:
        if q.scale is None:
            what = "computed" if q.node.inputs[1].inputs else "an input of the model"
            yield q.node, f"the scale '{q.node.inputs[1].name}' is {what}, not a constant"


def zero_points(ctx: Context) -> Iterator[Place]:
    """Zero points that are not zero, or not constant."""
    for q in ctx.quantizers:
        if q.zero_point is None:
            if len(q.node.inputs) > 2 and not q.node.inputs[2].is_empty():
                yield q.node, f"the zero point '{q.node.inputs[2].name}' is computed"
            continue
        values = q.zero_point.astype(np.float64)
        if values.any():
            yield q.node, f"the zero point is {values[values != 0].ravel()[0]:g}, not 0"


def missing_zero_points(ctx: Context) -> Iterator[Place]:
    """QuantizeLinear without a zero point: UINT8 in ONNX, INT8 in TensorRT."""
    for q in ctx.quantizers:
        given = len(q.node.inputs) > 2 and not q.node.inputs[2].is_empty()
        if q.quantizes and not q.dynamic and not given and not q.node.attrs.get("output_dtype", 0):
            yield q.node, "no zero point, so no type: UINT8 to ONNX, INT8 to TensorRT"


def zero_point_lengths(ctx: Context) -> Iterator[Place]:
    """Zero points with another number of values than the scale."""
    for q in ctx.quantizers:
        if q.scale is None or q.zero_point is None or q.scale.size == q.zero_point.size:
            continue
        yield q.node, f"{q.scale.size} scales but {q.zero_point.size} zero points"


def unequal_pairs(ctx: Context) -> Iterator[Place]:
    """A DQ with another scale than the Q it reads."""
    for dq in ctx.quantizers:
        q = None if dq.quantizes else ctx.quantizer(dq.data)
        if q is None or not q.quantizes or q.scale is None or dq.scale is None:
            continue
        if q.scale.size != dq.scale.size or (q.scale.ravel() != dq.scale.ravel()).any():
            yield dq.node, "its scale is not that of the QuantizeLinear before it"


RULES: tuple[Rule, ...] = (
    Rule(
        "zero-scale", "refused",
        "Every scale must be positive; a dead channel or an all-zero tensor gives 0.",
        DOCS + "; " + SEEN, "give the channel any positive scale, or leave the tensor float",
        zero_scales, says=("Scale coefficients must all be positive",),
    ),
    Rule(
        "negative-scale", "refused", "Every scale must be positive.", DOCS + "; " + SEEN,
        "quantize again with scale = amax / 127", negative_scales,
        says=("Scale coefficients must all be positive",),
    ),
    Rule(
        "non-finite-scale", "refused",
        "TensorRT refuses NaN. It builds an infinite scale, but the result is 0 x inf.", SEEN,
        "look for NaN or overflow in the calibration data and quantize again", non_finite_scales,
        says=("Scale coefficients must all be positive",),
    ),
    Rule(
        "fp16-underflow", "info",
        "In FP16 this scale rounds to 0, as when TensorRT 10 builds with --fp16. A strongly "
        "typed FP32 build takes it.", DOCS + "; " + SEEN,
        "build strongly typed, or raise the scale to at least 6e-8",
        underflowing_scales,
    ),
    Rule(
        "zero-codes", "inaccurate",
        "Every code of this weight is 0, so it adds nothing: the scale is too coarse, or the "
        "weight was zero before.", ONNX,
        "give the weight a scale of its own size, or leave the node float",
        zero_codes,
    ),
    Rule(
        "computed-scale", "refused",
        "Scales must be constants. One that the graph computes crashes the whole process.",
        DOCS + "; " + SEEN,
        "quantize statically: write the scale as a constant", computed_scales,
        says=(r"crashed \(signal", r"dtype == W\.type"),
    ),
    Rule(
        "zero-point", "refused", "Only symmetric quantization is supported: zero points are 0.",
        DOCS + "; " + SEEN,
        "quantize again symmetrically (UINT8 around 128 can be rewritten exactly: --fix)",
        zero_points, says=("[Nn]on-zero zero point", "zero point .* must be all zeros"),
    ),
    Rule(
        "no-zero-point", "inaccurate",
        "Without a zero point ONNX quantizes to UINT8 and TensorRT to INT8, so the engine "
        "does not run what ONNX Runtime ran.", ONNX + "; " + SEEN,
        "write a zero point: a constant INT8 0", missing_zero_points,
    ),
    Rule(
        "zero-point-length", "refused", "Scale and zero point must have equally many values.",
        ONNX + "; " + SEEN, "write one zero a scale", zero_point_lengths,
        says=("scale and zero point must have the same volume",),
    ),
    Rule(
        "pair-scales", "inaccurate",
        "The two scales of this pair differ, so what comes out is the tensor times their "
        "ratio.", ONNX,
        "use one scale in the QuantizeLinear and its DequantizeLinear", unequal_pairs,
    ),
)  # fmt: skip
