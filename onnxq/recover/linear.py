"""Linear ops with a constant weight, seen by channel: their sizes, and how they take a scale.

MatMul and Gemm (a matrix on the right), Conv and ConvTranspose, in groups or not. A scale is one
positive value a channel. Computed in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.model.geometry import CONVOLUTIONS, geometry_of
from onnxq.model.graph import WEIGHTED, Node, is_standard
from onnxq.passes import affine
from onnxq.passes.affine import Affine, NotExact


@dataclass(frozen=True)
class Edit:
    """A constant input of a node, and what it becomes."""

    node: str
    input: int
    values: Array


def input_channels(node: Node) -> int:
    """Channels of the first input of a linear op whose second is a constant weight; raises
    NotExact for any other node."""
    if node.op not in WEIGHTED or len(node.inputs) < 2 or not is_standard(node):
        raise NotExact(f"{node.op} '{node.name}' is not linear")
    weight = affine.constant(node.inputs[1], f"weight of {node.op} '{node.name}'")
    if node.op not in CONVOLUTIONS and (weight.ndim != 2 or node.attrs.get("transA", 0)):
        raise NotExact(f"{node.op} '{node.name}' has its channels elsewhere")
    return geometry_of(node).input_channels(weight.shape)


def scale_before(node: Node, scale: Array) -> Array:
    """`scale`, one value a channel, as it broadcasts to the first input of a linear op."""
    if node.op in CONVOLUTIONS:
        rank = affine.constant(node.inputs[1], f"weight of {node.op} '{node.name}'").ndim
        return scale.reshape(-1, *[1] * (rank - 2))
    return scale


def multiply(node: Node, scale: Array) -> Edit:
    """The edit by which the linear op `node` computes the same of an input divided by `scale`, one
    value a channel; raises NotExact for an op that cannot."""
    weight = affine.constant(node.inputs[1], f"weight of {node.op} '{node.name}'")
    channels = input_channels(node)
    if channels != scale.size:
        raise NotExact(f"{scale.size} channels do not fit {channels} of {node.op} '{node.name}'")
    if node.op == "Conv":
        return Edit(node.name, 1, affine.ahead(node, Affine(scale, np.zeros(scale.size))).weight)
    geometry = geometry_of(node)
    wide = geometry.spread(scale, geometry.inputs, weight.shape)
    return Edit(node.name, 1, rounded(weight.astype(np.float64) * wide, weight.dtype))


def input_amax(node: Node) -> Array:
    """Largest |weight| that meets each input channel of a linear op; float64, shape (channels,)."""
    return _amax(node, geometry_of(node).inputs)


def output_amax(node: Node) -> Array:
    """Largest |weight| of each output channel of a linear op; float64, shape (channels,)."""
    return _amax(node, geometry_of(node).outputs)


def _amax(node: Node, axis: int) -> Array:
    """Largest |weight| at each index of an axis, one group of a convolution after the other."""
    weight = np.abs(affine.constant(node.inputs[1], f"weight of {node.op} '{node.name}'"))
    if node.op in CONVOLUTIONS and axis == 1:  # axis 0 is in blocks of a group
        groups = geometry_of(node).groups
        blocks = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        return np.asarray(blocks.max(axis=(1, 3)).ravel(), np.float64)
    others = tuple(a for a in range(weight.ndim) if a != axis % weight.ndim)
    return np.asarray(weight.max(axis=others), np.float64)


def by_channel(node: Node) -> tuple[Array, Array, int]:
    """The weight of a linear op as (groups, outputs, inputs): sums of squares and largest |values|
    over the places of its kernel; how many places. float64."""
    weight = affine.constant(node.inputs[1], f"weight of {node.op} '{node.name}'")
    geometry = geometry_of(node)
    groups = geometry.groups
    if weight.ndim == 2:
        weight = (weight.T if geometry.outputs else weight)[..., None]
    blocks = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    blocks = blocks.astype(np.float64)
    if node.op == "ConvTranspose":
        blocks = blocks.swapaxes(1, 2)
    return (blocks**2).sum(axis=3), np.abs(blocks).max(axis=3), int(blocks.shape[3])


def rounded(values: Array, dtype: Any) -> Array:
    """`values` in the type of a constant; raises NotExact where that is none or they overflow."""
    if np.dtype(dtype).kind != "f":
        raise NotExact(f"a constant is of type {np.dtype(dtype)}")
    with np.errstate(over="ignore"):
        new = values.astype(dtype)
    if not np.isfinite(new).all():
        raise NotExact(f"a scaled constant overflows {np.dtype(dtype)}")
    return np.asarray(new)
