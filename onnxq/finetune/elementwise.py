"""Ops that work value by value, as functions of torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import onnx
import torch
from onnx.helper import tensor_dtype_to_np_dtype
from torch.nn import functional

from onnxq.finetune.call import Call, Function, near, number


def one(function: Callable[[torch.Tensor], torch.Tensor]) -> Function:
    """An op of one operand."""
    return lambda call, x: function(x)


def two(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Function:
    """An op of two operands that broadcast."""
    return lambda call, a, b: function(*near(a, b))


def several(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Function:
    """An op of any number of operands."""
    return lambda call, *x: reduce(lambda a, b: function(*near(a, b)), x)


def divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Quotients; of integers those rounded toward zero, as in C."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def power(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Powers, in the type of the base."""
    return torch.pow(a, b).to(a.dtype)


def clip(
    call: Call, x: torch.Tensor, low: torch.Tensor | None = None, high: torch.Tensor | None = None
) -> torch.Tensor:
    """Bounds are attributes or inputs; where they cross, the upper one wins."""
    bounds = [number(given) if given is not None else call.get(name)
              for name, given in (("min", low), ("max", high))]  # fmt: skip
    if bounds[0] is None and bounds[1] is None:
        return x
    if not x.is_floating_point():
        bounds = [None if b is None else int(b) for b in bounds]
    return torch.clamp(x, *bounds)


def cast(call: Call, x: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
    """The values in another type."""
    return x.to(torch_type(call.get("to")) if like is None else like.dtype)


def torch_type(onnx_type: int) -> torch.dtype:
    """The type of torch that an ONNX type is; raises KeyError for one that torch has not."""
    if onnx_type == onnx.TensorProto.BFLOAT16:
        return torch.bfloat16
    return TYPES[tensor_dtype_to_np_dtype(onnx_type).name]


TYPES = {
    name: getattr(torch, name)
    for name in ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8",
                 "bool")
}  # fmt: skip


def prelu(call: Call, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """The slope broadcasts as it is, to the last axes."""
    x, slope = near(x, slope)
    return torch.where(x < 0, x * slope, x)


def hard_sigmoid(call: Call, x: torch.Tensor) -> torch.Tensor:
    """max(0, min(1, alpha x + beta))."""
    return torch.clamp(x * call.get("alpha", 0.2) + call.get("beta", 0.5), 0, 1)


def gelu(call: Call, x: torch.Tensor) -> torch.Tensor:
    """x times the normal distribution function, or its approximation by tanh."""
    return functional.gelu(x, approximate=call.get("approximate", "none"))


def softplus(call: Call, x: torch.Tensor) -> torch.Tensor:
    """log(1 + e^x), without the threshold of torch."""
    return torch.logaddexp(x, torch.zeros_like(x))


def swish(call: Call, x: torch.Tensor) -> torch.Tensor:
    """x sigmoid(alpha x)."""
    return x * torch.sigmoid(x * call.get("alpha", 1.0))


def thresholded(call: Call, x: torch.Tensor) -> torch.Tensor:
    """x above alpha, else 0."""
    return torch.where(x > call.get("alpha", 1.0), x, torch.zeros_like(x))


def where(call: Call, chosen: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a where chosen, else b."""
    chosen, a, b = near(chosen, a, b)
    return torch.where(chosen, a, b)


def mod(call: Call, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The remainder: with the sign of the divisor, or with `fmod` of the dividend."""
    a, b = near(a, b)
    return torch.fmod(a, b) if call.get("fmod", 0) else torch.remainder(a, b)


def mean(call: Call, *x: torch.Tensor) -> torch.Tensor:
    """The mean of the operands."""
    total: Any = several(torch.add)(call, *x)
    return total / len(x)


ELEMENTWISE: dict[str, Function] = {
    "Abs": one(torch.abs),
    "Add": two(torch.add),
    "And": two(torch.logical_and),
    "Cast": cast,
    "CastLike": cast,
    "Ceil": one(torch.ceil),
    "Celu": lambda call, x: functional.celu(x, call.get("alpha", 1.0)),
    "Clip": clip,
    "Cos": one(torch.cos),
    "Div": two(divide),
    "Dropout": lambda call, x, *_: x,
    "Elu": lambda call, x: functional.elu(x, call.get("alpha", 1.0)),
    "Equal": two(torch.eq),
    "Erf": one(torch.erf),
    "Exp": one(torch.exp),
    "Floor": one(torch.floor),
    "Gelu": gelu,
    "Greater": two(torch.gt),
    "GreaterOrEqual": two(torch.ge),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": lambda call, x: x * torch.clamp(x / 6 + 0.5, 0, 1),
    "Identity": one(lambda x: x),
    "LeakyRelu": lambda call, x: torch.where(x < 0, x * call.get("alpha", 0.01), x),
    "Less": two(torch.lt),
    "LessOrEqual": two(torch.le),
    "Log": one(torch.log),
    "Max": several(torch.maximum),
    "Mean": mean,
    "Min": several(torch.minimum),
    "Mish": lambda call, x: x * torch.tanh(softplus(call, x)),
    "Mod": mod,
    "Mul": two(torch.mul),
    "Neg": one(torch.neg),
    "Not": one(torch.logical_not),
    "Or": two(torch.logical_or),
    "PRelu": prelu,
    "Pow": two(power),
    "Reciprocal": one(torch.reciprocal),
    "Relu": one(torch.relu),
    "Round": one(torch.round),
    "Selu": lambda call, x: call.get("gamma", 1.05070102214813232421875) * torch.where(
        x > 0, x, call.get("alpha", 1.67326319217681884765625) * torch.expm1(x)),
    "Sigmoid": one(torch.sigmoid),
    "Sign": one(torch.sign),
    "Sin": one(torch.sin),
    "Softplus": softplus,
    "Softsign": one(functional.softsign),
    "Sqrt": one(torch.sqrt),
    "Sub": two(torch.sub),
    "Sum": several(torch.add),
    "Swish": swish,
    "Tanh": one(torch.tanh),
    "ThresholdedRelu": thresholded,
    "Where": where,
    "Xor": two(torch.logical_xor),
}  # fmt: skip
