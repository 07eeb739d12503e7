"""Why a weighted op stays float for TensorRT: a table of rules, read from the top.

The first rule that holds is the reason in the plan. Evidence for each: docs/tensorrt.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from onnxq.model.flow import is_first, same_source
from onnxq.model.geometry import CONVOLUTIONS, geometry_of
from onnxq.model.graph import Node, Tensor, constant_of, producer
from onnxq.schemes import Scheme
from onnxq.targets.options import PlanOptions, stored_weight, weight_input

# What NVIDIA's Model Optimizer leaves out of FP8, for want of kernels in TensorRT.
FP8_WINDOW, FP8_CHANNELS = 32, 16
SMALL_WINDOW = 3  # depthwise Convs with a window under it stay in half precision
FLOATS = (np.float32, np.float16)  # what ONNX Runtime can be calibrated in


@dataclass(frozen=True)
class FloatRule:
    """One reason to leave a weighted op float; `reason` may quote {min_channels}, {high_precision}.

    kernel: whether it speaks of a kernel on quantized activations, not of weights alone.
    tensorrt: whether it speaks of what TensorRT runs, or runs fast.
    """

    name: str
    reason: str
    holds: Callable[[Node, PlanOptions], bool]
    kernel: bool = False
    tensorrt: bool = True


def shape_of(tensor: Tensor) -> list[Any]:
    """Dimensions of a tensor, None for each that is not a number; empty if the rank is unknown."""
    return [d if isinstance(d, int) else None for d in tensor.shape or ()]


def _weight_shape(node: Node) -> tuple[int, ...]:
    index, stored = weight_input(node), stored_weight(node)
    if stored is not None:
        return tuple(stored.inputs[0].shape)
    return () if index is None else tuple(node.inputs[index].shape)


def _not_float(node: Node, options: PlanOptions) -> bool:
    return any(t.dtype is not None and t.dtype not in FLOATS for t in node.inputs[:2])


def _no_constant_weight(node: Node, options: PlanOptions) -> bool:
    if node.op == "MatMul":
        return all(constant_of(t) is not None for t in node.inputs)
    computed = constant_of(node.inputs[1]) is None and stored_weight(node) is None
    return node.op != "Gemm" and computed


def _other_codes(node: Node, options: PlanOptions) -> bool:
    """Whether a weight is quantized already in a way that multiplies with no INT8 activation."""
    stored = stored_weight(node)
    if stored is None:
        return False
    codes, *zeros = (constant_of(t) for t in (stored.inputs[0], *stored.inputs[2:]))
    centred = all(zero is not None and not np.any(zero) for zero in zeros)
    blocks = stored.attrs.get("block_size", 0)
    return codes is None or codes.dtype != np.int8 or not centred or bool(blocks)


def _deconv(node: Node, options: PlanOptions) -> bool:
    return node.op == "ConvTranspose" and options.deconv == "float"


def _few_channels(node: Node, options: PlanOptions) -> bool:
    if node.op not in CONVOLUTIONS:
        return False
    weight, geometry = _weight_shape(node), geometry_of(node)
    first = node.op == "Conv" and is_first(node)
    narrow_in = geometry.input_channels(weight) < options.narrowest(node.op) and not first
    return narrow_in or geometry.output_channels(weight) < options.narrowest(node.op)


def _ragged_groups(node: Node, options: PlanOptions) -> bool:
    group = node.attrs.get("group", 1)
    if node.op not in CONVOLUTIONS or group == 1:
        return False
    weight = _weight_shape(node)
    per_group = (weight[1], weight[0] // group)
    return per_group != (1, 1) and any(c % 4 for c in per_group)


def _small_depthwise(node: Node, options: PlanOptions) -> bool:
    if node.op != "Conv" or options.high_precision == "fp32":
        return False
    weight = _weight_shape(node)
    return node.attrs.get("group", 1) > 1 and weight[1] == 1 and max(weight[2:]) < SMALL_WINDOW


def _matrix_vector(node: Node, options: PlanOptions) -> bool:
    shape = shape_of(node.inputs[0])
    if node.op in ("Gemm", "MatMul"):
        rows = shape[-2:-1] if not node.attrs.get("transA", 0) else shape[-1:]
        vector = 1 in (len(shape), len(shape_of(node.inputs[1])))
        return (rows == [1] and len(shape) == 2) or vector or _behind_global_pool(node)
    if node.op != "Conv":
        return False
    return (bool(shape[2:]) and all(d == 1 for d in shape[2:])) or _behind_global_pool(node)


def _behind_global_pool(node: Node) -> bool:
    before = producer(same_source(node.inputs[0]))
    return before is not None and before.op == "GlobalAveragePool"


def _narrow_product(node: Node, options: PlanOptions) -> bool:
    if node.op not in ("Gemm", "MatMul"):
        return False
    a, b = shape_of(node.inputs[0]), shape_of(node.inputs[1])
    known = [d for d in (*a[-1:], *b[-2:]) if d is not None]
    return any(d < options.narrowest(node.op) for d in known)


def _thin_groups(node: Node, options: PlanOptions) -> bool:
    return node.op in CONVOLUTIONS and _weight_shape(node)[1] < FP8_CHANNELS


def _unlike_channels(node: Node, options: PlanOptions) -> bool:
    if node.op not in CONVOLUTIONS:
        return False
    outer, inner = _weight_shape(node)[:2]
    return outer % FP8_CHANNELS != inner % FP8_CHANNELS


def _wide_window(node: Node, options: PlanOptions) -> bool:
    return node.op in CONVOLUTIONS and prod(_weight_shape(node)[2:]) > FP8_WINDOW


FLOAT_RULES: tuple[FloatRule, ...] = (
    FloatRule("not-float", "its inputs are not float32 or float16", _not_float, tensorrt=False),
    FloatRule("computed-weight", "its weight is not constant", _no_constant_weight, tensorrt=False),
    FloatRule(
        "other-codes",
        "its weight is quantized already, and not as INT8 around zero with a scale "
        "a tensor or channel",
        _other_codes,
        tensorrt=False,
    ),
    FloatRule("deconv", "TensorRT runs ConvTranspose in float anyway; --deconv to try", _deconv),
    FloatRule("few-channels", "fewer than {min_channels} channels in or out", _few_channels),
    FloatRule("ragged-groups", "channels per group are not a multiple of 4", _ragged_groups, True),
    FloatRule(
        "small-depthwise",
        "a depthwise Conv under 3 x 3 moves fewer bytes in {high_precision}",
        _small_depthwise,
        True,
    ),
    FloatRule("matrix-vector", "a matrix-vector product gains nothing", _matrix_vector, True),
    FloatRule("narrow-product", "K or N is under {min_channels}", _narrow_product),
)
FP8_RULES: tuple[FloatRule, ...] = (
    FloatRule("fp8-channels", "a Conv of under 16 channels in, or in a group, has no FP8 kernel; "
              "--scheme-for to give it INT8", _thin_groups),
    FloatRule("fp8-padding", "a Conv whose channels in and out differ modulo 16 has no FP8 kernel; "
              "--scheme-for to give it INT8", _unlike_channels),
    FloatRule("fp8-window", "FP8 has no kernel for a Conv window of over 32 values", _wide_window),
)  # fmt: skip


def float_reason(node: Node, options: PlanOptions, scheme: Scheme) -> str | None:
    """Why a weighted op stays float under a scheme; None where it is quantized."""
    rules = FLOAT_RULES
    if scheme.activation is None:
        if weight_input(node) is None:
            return f"no-weight: {scheme.name} quantizes weights alone"
        rules = tuple(rule for rule in rules if not rule.kernel)
    elif scheme.activation != "int8" and stored_weight(node) is not None:
        return f"other-codes: its weight is quantized already, and not for {scheme.name}"
    if "tensorrt" not in scheme.targets:
        rules = tuple(rule for rule in rules if not rule.tensorrt)
    if scheme.activation == "fp8":
        rules += FP8_RULES
    for rule in rules:
        if rule.holds(node, options):
            quoted = rule.reason.format(
                min_channels=options.narrowest(node.op), high_precision=options.high_precision
            )
            return f"{rule.name}: {quoted}"
    return None
