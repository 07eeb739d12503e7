"""Scale a tensor per channel without changing what the graph computes.

    y = f(x) W   =>   y = f'(x) (s W),   f'(x) = f(x) / s

The division moves back from the tensor, through ops that commute with it, into the constants that
write the tensor: weights and biases of linear ops, the affine part of a normalization, factors.
`absorb` decides and `apply_edits` does. A scale is an array that broadcasts to the tensor with the
trailing axes alone: shape (C,) where channels are last, (C, 1, 1) for images, (heads, 1, C) within
attention. All of its values are positive. Computed in float64 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.arrays import Array
from onnxq.model.geometry import CONVOLUTIONS
from onnxq.model.graph import (
    Graph,
    Node,
    Tensor,
    constant_of,
    is_output,
    is_standard,
    node_by_name,
    producer,
)
from onnxq.passes import affine
from onnxq.passes.affine import Affine, NotExact
from onnxq.passes.name_nodes import names_of, new_name
from onnxq.recover.linear import Edit, rounded


@dataclass(frozen=True)
class Absorbed:
    """How a tensor gets divided.

    tensors: those that are divided with it, and itself. writers: of each linear op among the edited
    its name and the scale of its output channels.
    """

    edits: tuple[Edit, ...] = ()
    tensors: tuple[str, ...] = ()
    writers: tuple[tuple[str, Array], ...] = ()

    def __add__(self, more: Absorbed) -> Absorbed:
        tensors, writers = self.tensors + more.tensors, self.writers + more.writers
        return Absorbed(self.edits + more.edits, tensors, writers)


Step = tuple[Absorbed, list[tuple[Tensor, Array]]]  # what an op absorbs, what its inputs must


def absorb(graph: Graph, tensor: Tensor, scale: Array) -> Absorbed:
    """The edits that divide `tensor` by `scale`, whoever reads it; raises NotExact with the reason
    where what writes it cannot take them."""
    node = producer(tensor)
    if node is None:
        raise NotExact(f"'{tensor.name}' is an input or a constant")
    if not is_standard(node) or node.op not in _STEPS:
        raise NotExact(f"{node.op} '{node.name}' does not commute with a scale")
    done, waiting = _STEPS[node.op](graph, node, _trimmed(scale))
    done += Absorbed(tensors=(tensor.name,))
    for before, its in waiting:
        done += _absorb_further(graph, before, its)
    return done


def _absorb_further(graph: Graph, tensor: Tensor, scale: Array) -> Absorbed:
    if len(value_readers(tensor)) != 1 or is_output(graph, tensor):
        raise NotExact(f"'{tensor.name}' is read elsewhere too")
    return absorb(graph, tensor, scale)


def value_readers(tensor: Tensor) -> list[Node]:
    """The nodes that read the values of a tensor, one entry a read; Shape and Size do not."""
    return [node for node in tensor.outputs if node.op not in ("Shape", "Size")]


def apply_edits(graph: Graph, edits: Iterable[Edit]) -> None:
    """Put the edited constants in their places; others that read the old ones go on doing so."""
    nodes = node_by_name(graph)
    taken = names_of(graph)
    for edit in edits:
        node = nodes[edit.node]
        old = node.inputs[edit.input]
        name = old.name
        if len(old.outputs) != 1 or not isinstance(old, gs.Constant):
            name = new_name(f"{old.name}.scaled", taken)
        node.inputs[edit.input] = gs.Constant(name, edit.values)


def _edit(node: Node, i: int, change: Callable[[Array], Array]) -> Edit:
    old = affine.constant(node.inputs[i], f"input {i} of {node.op} '{node.name}'")
    new = rounded(change(old.astype(np.float64)), old.dtype)
    return Edit(node.name, i, _trimmed(new, max(old.ndim, 1)))


def _trimmed(values: Array, rank: int = 1) -> Array:
    while values.ndim > rank and values.shape[0] == 1:
        values = values[0]
    return values


def _trailing(tensor: Tensor, count: int) -> list[int]:
    """The last `count` dimensions of a tensor; raises NotExact where they are not known."""
    dims = [] if tensor.shape is None else list(tensor.shape)[max(len(tensor.shape) - count, 0) :]
    if len(dims) != count or not all(isinstance(d, int) for d in dims):
        raise NotExact(f"the shape of '{tensor.name}' is not known")
    return dims


def _carries(tensor: Tensor, scale: Array) -> bool:
    """Whether a tensor has every axis along which `scale` varies, so that it can be divided."""
    varying = [k for k in range(1, scale.ndim + 1) if scale.shape[-k] != 1]
    shape = tensor.shape or ()
    return all(k <= len(shape) and shape[-k] == scale.shape[-k] for k in varying)


def _through(graph: Graph, node: Node, scale: Array) -> Step:
    """f(x / s) = f(x) / s for positive s, value by value: Relu and its like."""
    return Absorbed(), [(node.inputs[0], scale)]


def _clip(graph: Graph, node: Node, scale: Array) -> Step:
    bounds = [node.attrs.get("min", -math.inf), node.attrs.get("max", math.inf)]
    for i, tensor in enumerate(node.inputs[1:3]):
        if not tensor.is_empty():
            bounds[i] = float(affine.constant(tensor, f"bound of Clip '{node.name}'"))
    if any(b != 0 and math.isfinite(b) for b in bounds):
        raise NotExact(f"Clip '{node.name}' ends at {bounds}, which a scale would move")
    return _through(graph, node, scale)


def _terms(graph: Graph, node: Node, scale: Array) -> Step:
    """(a + b) / s = a / s + b / s, and min(a, b) / s = min(a / s, b / s)."""
    edits, waiting = [], []
    for i, tensor in enumerate(node.inputs):
        if constant_of(tensor) is not None:
            edits.append(_edit(node, i, lambda c: c / scale))
        elif _carries(tensor, scale):
            waiting.append((tensor, scale))
        else:
            raise NotExact(f"'{tensor.name}' is spread over the channels")
    return Absorbed(tuple(edits)), waiting


def _factors(graph: Graph, node: Node, scale: Array) -> Step:
    """(a b) / s = (a / s) b: a constant factor, or else the first factor that can be divided."""
    for i, tensor in enumerate(node.inputs):
        if constant_of(tensor) is not None:
            return Absorbed((_edit(node, i, lambda c: c / scale),)), []
    for tensor in node.inputs:
        try:
            if _carries(tensor, scale):
                return _absorb_further(graph, tensor, scale), []
        except NotExact:
            continue
    raise NotExact(f"no factor of Mul '{node.name}' can be divided")


def _quotient(graph: Graph, node: Node, scale: Array) -> Step:
    """(a / b) / s = (a / s) / b = a / (b s)."""
    if constant_of(node.inputs[1]) is not None:
        return Absorbed((_edit(node, 1, lambda c: c * scale),)), []
    if constant_of(node.inputs[0]) is not None:
        return Absorbed((_edit(node, 0, lambda c: c / scale),)), []
    if not _carries(node.inputs[0], scale):
        raise NotExact(f"'{node.inputs[0].name}' is spread over the channels")
    return Absorbed(), [(node.inputs[0], scale)]


def _transposed(graph: Graph, node: Node, scale: Array) -> Step:
    shape = node.inputs[0].shape
    if shape is None:
        raise NotExact(f"the shape of '{node.inputs[0].name}' is not known")
    perm = node.attrs.get("perm") or list(range(len(shape)))[::-1]
    wide = scale.reshape([1] * (len(perm) - scale.ndim) + list(scale.shape))
    return Absorbed(), [(node.inputs[0], wide.transpose(np.argsort(perm)))]


def _reshaped(graph: Graph, node: Node, scale: Array) -> Step:
    """The trailing axes of `scale` hold P values: so do some trailing axes of what is reshaped."""
    shape = _trailing(node.outputs[0], scale.ndim)
    dims: list[int] = []
    while math.prod(dims) < math.prod(shape):
        dims = _trailing(node.inputs[0], len(dims) + 1)
    if math.prod(dims) != math.prod(shape):
        raise NotExact(f"{node.op} '{node.name}' mixes channels with other axes")
    index = np.arange(scale.size).reshape(scale.shape)
    index = np.broadcast_to(index, shape).reshape(dims)
    for axis in range(index.ndim):  # an axis along which the scale is one and the same stays open
        first = index.take([0], axis)
        if np.array_equal(np.broadcast_to(first, index.shape), index):
            index = first
    return Absorbed(), [(node.inputs[0], scale.ravel()[index])]


def _linear(graph: Graph, node: Node, scale: Array) -> Step:
    """(W x + b) / s = (W / s) x + b / s, along the output channels."""
    weight = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if weight is None:
        raise NotExact(f"the weight of {node.op} '{node.name}' is not constant")
    spatial = weight.ndim - 2 if node.op in CONVOLUTIONS else 0
    if scale.shape != (scale.size, *[1] * spatial):
        raise NotExact(f"the scale is not one a channel of {node.op} '{node.name}'")
    flat = scale.ravel()
    params = affine.behind(node, None, Affine(1 / flat, np.zeros(flat.size)))
    edits = [Edit(node.name, 1, params.weight)]
    if node.op != "MatMul" and len(node.inputs) > 2 and not node.inputs[2].is_empty():
        edits.append(_edit(node, 2, lambda c: c / flat))
    return Absorbed(tuple(edits), writers=((node.name, flat),)), []


def _product(graph: Graph, node: Node, scale: Array) -> Step:
    """The columns of A B are those of B, its rows those of A; matrices in a batch go one by one."""
    if constant_of(node.inputs[1]) is not None:
        return _linear(graph, node, scale)
    side = 1 if scale.ndim < 2 or scale.shape[-2] == 1 else 0
    tensor = node.inputs[side]
    if (side == 0 and scale.shape[-1] != 1) or constant_of(tensor) is not None:
        raise NotExact(f"the scale is on neither side of MatMul '{node.name}'")
    if not _carries(tensor, scale):
        raise NotExact(f"'{tensor.name}' is spread over the channels")
    return Absorbed(), [(tensor, scale)]


def _normalized(graph: Graph, node: Node, scale: Array) -> Step:
    """The affine part of a LayerNormalization: gamma / s, beta / s."""
    gamma = affine.constant(node.inputs[1], f"scale of {node.op} '{node.name}'")
    if np.broadcast_shapes(gamma.shape, scale.shape) != gamma.shape or len(node.outputs) > 1:
        raise NotExact(f"{node.op} '{node.name}' normalizes other axes")
    given = [i for i in (1, 2) if i < len(node.inputs) and not node.inputs[i].is_empty()]
    return Absorbed(tuple(_edit(node, i, lambda c: c / scale) for i in given)), []


def _batch_normalized(graph: Graph, node: Node, scale: Array) -> Step:
    """The affine part of a BatchNormalization at inference, of an InstanceNormalization and a
    GroupNormalization, channels on axis 1."""
    _spatial(node, scale)
    flat = scale.ravel()
    sizes = [list(node.inputs[i].shape or ()) for i in (1, 2)]
    if sizes != 2 * [[flat.size]]:  # of groups, before opset 21
        raise NotExact(f"{node.op} '{node.name}' has no factor for each channel")
    return Absorbed(tuple(_edit(node, i, lambda c: c / flat) for i in (1, 2))), []


def _spatial(node: Node, scale: Array) -> None:
    """Raises NotExact unless `scale` is one value a channel on axis 1."""
    shape = node.inputs[0].shape
    if shape is None or len(shape) < 2 or scale.shape != (scale.size, *[1] * (len(shape) - 2)):
        raise NotExact(f"the scale is not one a channel of {node.op} '{node.name}'")


def _pooled(graph: Graph, node: Node, scale: Array) -> Step:
    """Pooling works channel by channel, by weights that are not negative or the largest value."""
    _spatial(node, scale)
    if len(node.outputs) > 1:
        raise NotExact(f"{node.op} '{node.name}' tells places too")
    return Absorbed(), [(node.inputs[0], scale)]


def _padded(graph: Graph, node: Node, scale: Array) -> Step:
    """Zeros stay zeros; copies are scaled with what they copy."""
    _spatial(node, scale)
    value = node.attrs.get("value", 0.0)
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        value = float(affine.constant(node.inputs[2], f"value of Pad '{node.name}'"))
    if value and node.attrs.get("mode", "constant") == "constant":
        raise NotExact(f"Pad '{node.name}' pads with {value}")
    if "pads" in node.attrs or len(node.inputs) > 3:
        raise NotExact(f"Pad '{node.name}' is not of a form that is known")
    pads = affine.constant(node.inputs[1], f"widths of Pad '{node.name}'").ravel()
    if pads[1] or pads[1 + pads.size // 2]:
        raise NotExact(f"Pad '{node.name}' adds channels")
    return Absorbed(), [(node.inputs[0], scale)]


_STEPS: dict[str, Callable[[Graph, Node, Array], Step]] = {
    **dict.fromkeys(("Relu", "LeakyRelu", "PRelu", "Identity", "Abs", "Neg"), _through),
    **dict.fromkeys(("Add", "Sub", "Min", "Max"), _terms),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(("Gemm", "Conv", "ConvTranspose"), _linear),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), _pooled),
    "Clip": _clip,
    "Mul": _factors,
    "Div": _quotient,
    "Transpose": _transposed,
    "MatMul": _product,
    "LayerNormalization": _normalized,
    **dict.fromkeys(
        ("BatchNormalization", "InstanceNormalization", "GroupNormalization"), _batch_normalized
    ),
    "Pad": _padded,
}
