"""Along which axis an output holds the probabilities of classes, as a Softmax writes them.

    y = Softmax(x)                              the op
    y = Exp(x - m) / ReduceSum(Exp(x - m))      written out, as exporters of JAX, TensorFlow and
                                                opsets before 13 do; or times the Reciprocal

Between the Softmax and the output there may be ops that leave each value and its place (Identity,
Cast, Dropout), and those that move whole rows (Transpose, Squeeze, Unsqueeze, a Reshape or Flatten
that keeps the last axis): then the axis moves with them. A Softmax of opset 12 or less has become
Flatten, Softmax and a Reshape to the shape there was before: its axis is the Flatten's.
"""

from __future__ import annotations

import numpy as np

from onnxq.arrays import Array
from onnxq.model.graph import Node, Tensor, behind, constant_of, producer

KEEPS = ("Identity", "Cast", "Dropout")  # each value in its place
SPREADS = (*KEEPS, "Reshape", "Expand", "Unsqueeze", "Squeeze", "Tile")  # a sum over its terms


def classes_axis(output: Tensor) -> int | None:
    """The axis of an output, 0 or more where its rank is known; None where no Softmax wrote it."""
    node = producer(output)
    if node is None:
        return None
    if node.op == "Softmax":
        return int(node.attrs.get("axis", -1))
    if (axis := _written_out(node)) is not None:
        return axis
    before = node.inputs[0] if node.inputs else None
    if before is None or (axis := classes_axis(before)) is None:
        return None
    if node.op in KEEPS:
        return axis
    is_old, old = _before_flatten(node, output)
    return old if is_old else _moved(node, axis, before, output)


def _written_out(node: Node) -> int | None:
    """The axis over which a Div, or a Mul by a Reciprocal, makes terms a share of their sum."""
    if node.op not in ("Div", "Mul") or len(node.inputs) != 2:
        return None
    for terms, by in (node.inputs, node.inputs[::-1]):
        whole = producer(behind(by, SPREADS))
        if node.op == "Mul":
            if whole is None or whole.op != "Reciprocal":
                continue
            whole = producer(behind(whole.inputs[0], SPREADS))
        term = behind(terms, KEEPS)
        wrote = producer(term)
        if wrote is None or wrote.op != "Exp" or whole is None or whole.op != "ReduceSum":
            continue
        if behind(whole.inputs[0], KEEPS) is term:
            return _summed(whole)
    return None


def _summed(total: Node) -> int | None:
    """The one axis of a ReduceSum."""
    axes = total.attrs.get("axes")
    if len(total.inputs) > 1:
        given = constant_of(total.inputs[1])
        axes = None if given is None else given.reshape(-1).tolist()
    return int(axes[0]) if axes is not None and len(axes) == 1 else None


def _before_flatten(node: Node, output: Tensor) -> tuple[bool, int | None]:
    """(whether a Reshape takes back the Flatten before a Softmax; the Flatten's axis, None where it
    is not the last one: then values of several axes are one set of classes)."""
    softmax = producer(node.inputs[0])
    flatten = producer(softmax.inputs[0]) if softmax is not None and softmax.inputs else None
    shape = producer(node.inputs[1]) if node.op == "Reshape" else None
    if flatten is None or flatten.op != "Flatten" or shape is None or shape.op != "Shape":
        return False, None
    axis = int(flatten.attrs.get("axis", 1))
    last = output.shape is not None and axis in (-1, len(output.shape) - 1)
    return shape.inputs[0] is flatten.inputs[0], axis if last else None


def _moved(node: Node, axis: int, before: Tensor, output: Tensor) -> int | None:
    """Where an op moves an axis to; None where that is not known, or the axis is lost."""
    if before.shape is None or output.shape is None:
        return None
    old, new = list(before.shape), list(output.shape)
    axis %= len(old)
    if node.op == "Transpose":
        return list(node.attrs.get("perm", range(len(old))[::-1])).index(axis)
    if node.op not in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") or not new:
        return None
    last = axis == len(old) - 1 and isinstance(old[-1], int) and old[-1] == new[-1]
    return len(new) - 1 if last and old[-1] != 1 else None


def logits(probabilities: Array, axis: int) -> Array:
    """What a Softmax made them of, less the mean; in float64. Nothing is infinite: what is below
    the normal numbers of float32 counts as the least of these."""
    x = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
    return np.asarray(x - x.mean(axis=axis, keepdims=True))
