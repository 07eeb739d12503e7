"""Fold a constant per channel that is multiplied with or added to a convolution's output.

    Conv -> Mul, Div, Add or Sub with a constant   =>   Conv'

This is how a BatchNormalization looks that was taken apart before the export, and how Paddle
writes the bias of a deconvolution and the learnable affine blocks of its recognition nets. What
stays between a Conv and its activation keeps TensorRT from fusing the two. The algebra is in
`affine`; MatMuls are left alone, since those constants are attention scales and biases that
TensorRT fuses as they are.
"""

from __future__ import annotations

import logging

import numpy as np

from onnxq.arrays import Array
from onnxq.model.geometry import CONVOLUTIONS, geometry_of
from onnxq.model.graph import Graph, Node, constant_of, is_standard, producer
from onnxq.passes import affine
from onnxq.passes.affine import Affine, NotExact
from onnxq.passes.name_nodes import names_of
from onnxq.passes.weights import set_bias, set_weight, sole_writer, take_output

log = logging.getLogger(__name__)

ELEMENTWISE = ("Mul", "Div", "Add", "Sub")


def fold_affine(graph: Graph) -> int:
    """Fold into Conv and ConvTranspose what can be folded exactly; how many nodes went."""
    taken = names_of(graph)
    count = 0
    for node in graph.nodes:
        side = _constant_side(node)
        if side is None:
            continue
        try:
            conv = sole_writer(graph, node.inputs[1 - side])
            values = np.asarray(constant_of(node.inputs[side]))
            params = affine.behind(conv, None, _map_of(node, conv, values, side))
        except NotExact as reason:
            log.info("%s '%s' kept: %s", node.op, node.name, reason)
            continue
        set_weight(conv, params.weight, taken)
        set_bias(conv, params.bias, taken)
        take_output(node, conv)
        count += 1
    if count:
        graph.cleanup()
    return count


def _constant_side(node: Node) -> int | None:
    """Which input of an elementwise node behind a convolution is constant; None if not so."""
    if node.op not in ELEMENTWISE or not is_standard(node):
        return None
    for side in (0, 1):
        writer = producer(node.inputs[1 - side])
        convolved = writer is not None and writer.op in CONVOLUTIONS
        if convolved and constant_of(node.inputs[side]) is not None:
            return side
    return None


def _map_of(node: Node, conv: Node, values: Array, side: int) -> Affine:
    weight = affine.constant(conv.inputs[1], f"weight of {conv.op} '{conv.name}'")
    channels = geometry_of(conv).output_channels(weight.shape)
    flat = affine.per_channel(values, conv).astype(np.float64)
    if flat.size not in (1, channels):
        raise NotExact(f"{flat.size} values do not fit {channels} channels")
    if node.op == "Div" and (side == 0 or not flat.all()):
        raise NotExact("it divides a constant, or by zero")
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op == "Mul":
        return Affine(one * flat, zero)
    if node.op == "Div":
        return Affine(one / flat, zero)
    if node.op == "Add":
        return Affine(one, zero + flat)
    return Affine(one, zero - flat) if side == 1 else Affine(-one, zero + flat)
