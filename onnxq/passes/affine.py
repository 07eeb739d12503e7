"""A per-channel affine map y = scale * x + shift, and what it does to the weights next to it.

Behind an op that is linear in its weight W and bias B, per output channel o:

    W'[o] = scale[o] * W[o]        B'[o] = scale[o] * B[o] + shift[o]

Before a Conv, per input channel i (exact only where no padded zero meets a shift):

    W'[o, i] = W[o, i] * scale[i]  B'[o] = B[o] + sum over i, k of W[o, i, k] * shift[i]

Before a Gemm or MatMul likewise, per row i of what is multiplied.

Computed in float64 and rounded once, to the weight's type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.model.geometry import CONVOLUTIONS, geometry_of
from onnxq.model.graph import Node, Tensor, constant_of


class NotExact(Exception):
    """Why a map cannot be folded exactly; the pass that tried logs it and leaves the node."""


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift; both float64, one value a channel."""

    scale: Array
    shift: Array


@dataclass(frozen=True)
class Params:
    """The new weight and bias of a node, in the weight's dtype.

    The bias has one value a channel; a Gemm's may have rows, as its C had.
    """

    weight: Array
    bias: Array


def of_batchnorm(node: Node) -> Affine:
    """The map of a BatchNormalization at inference; raises NotExact if it has none.

    scale = gamma / sqrt(var + epsilon), shift = beta - mean * scale (ONNX BatchNormalization).
    """
    values = [constant_of(t) for t in node.inputs[1:5]]
    if len(values) != 4 or any(v is None for v in values):
        raise NotExact("its parameters are not constant")
    gamma, beta, mean, var = (np.asarray(v, np.float64) for v in values)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
        shift = beta - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise NotExact("its scale is not finite (a negative variance?)")
    return Affine(scale, shift)


def constant(tensor: Tensor, what: str) -> Array:
    """The values of a constant tensor; raises NotExact for one that is computed."""
    values = constant_of(tensor)
    if values is None:
        raise NotExact(f"the {what} is not constant")
    return values


def per_channel(added: Array, node: Node) -> Array:
    """A summand as one value, or one a channel, on the channel axis of the node's output.

    Raises NotExact for one that has more values or adds a dimension.
    """
    if node.op in CONVOLUTIONS:
        rank = constant(node.inputs[1], f"weight of {node.op} '{node.name}'").ndim
        axis = added.ndim - rank + 1
    else:
        shape = node.outputs[0].shape
        rank = 1 if shape is None else len(shape)
        axis = added.ndim - 1
    if added.ndim > rank or any(d != 1 for i, d in enumerate(added.shape) if i != axis):
        raise NotExact(
            f"the constant behind {node.op} '{node.name}' has more than one value a channel"
        )
    return added.ravel()


def behind(node: Node, added: Array | None, affine: Affine) -> Params:
    """Weight and bias of a Conv, ConvTranspose, Gemm or MatMul with `affine` behind it.

    `added` is a constant, one value or one a channel, that is added between the two. A Gemm's
    bias comes back for beta = 1. Raises NotExact.
    """
    weight = constant(node.inputs[1], f"weight of {node.op} '{node.name}'")
    scale = _along_outputs(node, weight, affine.scale)
    bias: Array = np.zeros(1)
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        bias = constant(node.inputs[2], f"bias of {node.op} '{node.name}'").astype(np.float64)
        if node.op == "Gemm":
            bias = bias * node.attrs.get("beta", 1.0)
    if added is not None:
        bias = bias + added.astype(np.float64)
    return _rounded(
        weight.astype(np.float64) * scale, bias * affine.scale + affine.shift, weight.dtype
    )


def _along_outputs(node: Node, weight: Array, scale: Array) -> Array:
    """`scale` in a shape that broadcasts over the output channels of the node's weight."""
    if node.op not in CONVOLUTIONS and weight.ndim != 2:
        raise NotExact(f"the weight of {node.op} '{node.name}' is not a matrix")
    geometry = geometry_of(node)
    _same(scale.size, geometry.output_channels(weight.shape), node)
    return geometry.spread(scale, geometry.outputs, weight.shape)


def ahead(node: Node, affine: Affine) -> Params:
    """Weight and bias of a Conv, Gemm or MatMul with `affine` before it; raises NotExact.

    Where a Gemm or MatMul sums over more than the channels, these are flattened images: each
    channel holds as many values in a row. A Gemm's bias comes back for beta = 1.
    """
    if node.op != "Conv":
        return _ahead_of_product(node, affine)
    if _pads(node) and np.any(affine.shift):
        raise NotExact(f"Conv '{node.name}' after it pads with zeros, which its shift would miss")
    weight = constant(node.inputs[1], f"weight of Conv '{node.name}'").astype(np.float64)
    geometry = geometry_of(node)
    _same(affine.scale.size, geometry.input_channels(weight.shape), node)
    scale, shift = (geometry.spread(v, geometry.inputs, weight.shape)
                    for v in (affine.scale, affine.shift))  # fmt: skip
    moved = (weight * shift).reshape(weight.shape[0], -1).sum(axis=1)
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        moved = moved + constant(node.inputs[2], f"bias of Conv '{node.name}'").astype(np.float64)
    return _rounded(weight * scale, moved, np.dtype(node.inputs[1].dtype))


def _ahead_of_product(node: Node, affine: Affine) -> Params:
    weight = constant(node.inputs[1], f"weight of {node.op} '{node.name}'")
    geometry = geometry_of(node)
    if weight.ndim != 2 or node.attrs.get("transA", 0):
        raise NotExact(f"{node.op} '{node.name}' after it multiplies no rows by a matrix")
    length, turned = weight.shape[geometry.inputs], geometry.outputs == 0
    if length % affine.scale.size:
        raise NotExact(f"{affine.scale.size} channels do not fit {length} rows of '{node.name}'")
    scale, shift = (np.repeat(x, length // x.size) for x in (affine.scale, affine.shift))
    rows = weight.astype(np.float64).T if turned else weight.astype(np.float64)
    moved = shift @ rows * node.attrs.get("alpha", 1.0)
    if node.op == "Gemm" and len(node.inputs) > 2 and not node.inputs[2].is_empty():
        bias = constant(node.inputs[2], f"bias of Gemm '{node.name}'").astype(np.float64)
        moved = moved + bias * node.attrs.get("beta", 1.0)
    scaled = rows * scale.reshape(-1, 1)
    return _rounded(scaled.T if turned else scaled, moved, weight.dtype)


def _pads(node: Node) -> bool:
    auto = node.attrs.get("auto_pad", "NOTSET")
    return auto.startswith("SAME") or any(node.attrs.get("pads", ()))


def _same(channels: int, expected: int, node: Node) -> None:
    if channels != expected:
        raise NotExact(f"{channels} channels do not fit {expected} of {node.op} '{node.name}'")


def _rounded(weight: Array, bias: Array, dtype: Any) -> Params:
    with np.errstate(over="ignore"):
        params = Params(weight.astype(dtype), bias.astype(dtype))
    if not (np.isfinite(params.weight).all() and np.isfinite(params.bias).all()):
        raise NotExact(f"the folded weights overflow {dtype}")
    return params
