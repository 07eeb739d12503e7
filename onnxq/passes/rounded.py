"""The nodes whose bias or weight ONNX Runtime rounds as it loads a Q/DQ model.

    DequantizeLinear -> Conv, ConvTranspose or Gemm -> (Relu, Clip) -> QuantizeLinear

In a session with default options the optimizer WeightBiasQuantization makes of their float bias
INT32 codes in steps of (x scale x weight scale), as its integer kernels add them, and of a float
weight INT8 codes with one scale. Between FP16 scales the step is FP32 and the codes are FP16 before
they become INT32: those beyond FP16 become -2^31 (ONNX Runtime 1.32, x86). What it looks for here
is what it finds after it has moved Q/DQ through ops that only pass values on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.model.geometry import geometry_of
from onnxq.model.graph import (
    WEIGHTED,
    Graph,
    Node,
    Tensor,
    behind,
    constant_of,
    is_standard,
    producer,
    scopes,
)
from onnxq.model.qdq import dequantizer

OPS = ("Conv", "ConvTranspose", "Gemm")
PASSED = ("MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Identity")
CLIPS = ("Relu", "Clip")
BIAS = 2  # the input that holds the bias
INT32_MAX = np.iinfo(np.int32).max


def rounded_nodes(graph: Graph) -> Iterator[tuple[Graph, Node]]:
    """Such nodes, each with the graph or body that holds it."""
    for scope in scopes(graph):
        for node in list(scope.nodes):
            if node.op in OPS and is_standard(node) and len(node.inputs) >= BIAS:
                before = dequantizer(behind(node.inputs[0], PASSED))
                if before is not None and _is_one(before.inputs[1]) and _to_codes(node):
                    yield scope, node


def concats_of_codes(graph: Graph) -> list[str]:
    """The Concats all of whose inputs are dequantized: ONNX Runtime makes QLinearConcat of them."""
    return [
        node.name
        for scope in scopes(graph)
        for node in scope.nodes
        if node.op == "Concat" and all(map(dequantizer, node.inputs))
    ]


def _is_one(scale: Tensor) -> bool:
    return scale.shape is not None and tuple(scale.shape) in ((), (1,))


def bias_of(node: Node) -> Array | None:
    """The constant bias, one value a channel; None where there is none or it has another form."""
    bias = constant_of(node.inputs[BIAS]) if len(node.inputs) > BIAS else None
    return bias if bias is not None and bias.ndim == 1 else None


def _to_codes(node: Node) -> list[Node]:
    """The nodes behind `node` up to a QuantizeLinear; none where something else reads it too."""
    found: list[Node] = []
    while True:
        readers = {id(n): n for n in node.outputs[0].outputs}
        if len(node.outputs) != 1 or len(readers) != 1:
            return []
        (node,) = readers.values()
        found.append(node)
        if node.op == "QuantizeLinear":
            return found
        if node.op not in (*CLIPS, *PASSED):
            return []


def loses_bias(node: Node) -> bool:
    """Whether the codes of the bias, or their sum with the products, are beyond INT32; where the
    scales are FP16, which holds the codes then, whether they are beyond that, and it shows."""
    x, w, bias = dequantizer(behind(node.inputs[0], PASSED)), dequantizer(node.inputs[1]), None
    if x is None or w is None or w.attrs.get("block_size", 0) or (bias := bias_of(node)) is None:
        return False
    sx, sw = (constant_of(dq.inputs[1]) for dq in (x, w))
    if sx is None or sw is None or sw.dtype not in (np.float32, np.float16):
        return False
    with np.errstate(all="ignore"):
        step = sx.astype(np.float32) * sw.astype(np.float32)  # in FP32, of FP16 scales too
        codes = np.where(bias == 0, 0, bias.astype(np.float32) / step).astype(np.float32)
        lost = ~np.isfinite(codes.astype(sw.dtype))
    codes = codes.astype(np.float64)
    if sw.dtype == np.float16:
        return bool((lost & ~_hidden(node, codes, step)).any())
    return bool((lost | (np.abs(np.rint(codes)) + largest_sum(node) > INT32_MAX)).any())


def _hidden(node: Node, codes: Array, step: Array) -> Array:
    """Where a lost bias makes no difference, a channel: ONNX Runtime puts -2^31 for codes that FP16
    cannot hold, and what is below zero either way is zero behind the Relu."""
    nodes, sums = _to_codes(node), _channel_sums(node)
    scale = constant_of(nodes[-1].inputs[1]) if nodes else None
    if scale is None or sums is None or not any(map(_cuts_at_zero, nodes)):
        return np.zeros(codes.shape, bool)
    most = sums if sums.shape == codes.shape else sums.max(initial=0)
    top = (np.maximum(codes, -INT32_MAX - 1) + most) * step.astype(np.float64)
    return np.asarray(top < 0.49 * scale.min())  # half a step rounds to zero; FP16 may add to it


def _cuts_at_zero(node: Node) -> bool:
    if node.op != "Clip" or len(node.inputs) < 2:
        return bool(node.op == "Relu")
    low = constant_of(node.inputs[1])
    return low is not None and bool((low == 0).all())


def largest_sum(node: Node) -> float:
    """A bound of the sums of products of 8-bit codes that a node adds up, in any channel; 0 where
    its codes are of other types, or not known."""
    found = _weight_codes(node)
    if found is None:
        return 0
    w, shape, most = found
    terms = int(np.prod([shape[i] for i in _summed(node, len(shape))]))
    if terms * most * 128 <= INT32_MAX // 4:  # as of nearly all: no weight need be read
        return terms * most * 128
    sums = _channel_sums(node)
    return terms * most * _furthest(w) if sums is None else float(sums.max())


def _channel_sums(node: Node) -> Array | None:
    """That bound a channel, of its constant INT8 codes; None where there are none."""
    found = _weight_codes(node)
    codes = _codes(found[0]) if found and _code_type(found[0]) == np.int8 else None
    if found is None or codes is None:
        return None
    axes = _summed(node, codes.ndim)
    return np.asarray(found[2] * np.abs(codes.astype(np.int16)).sum(axis=axes, dtype=np.int64))


def _weight_codes(node: Node) -> tuple[Node, Sequence[int], int] | None:
    """The DequantizeLinear of a weight and its shape, and how far an input's code is from that of
    zero at most; None unless both are 8-bit integers."""
    x, w = dequantizer(behind(node.inputs[0], PASSED)), dequantizer(node.inputs[1])
    if x is None or w is None or w.attrs.get("block_size", 0) or w.inputs[0].shape is None:
        return None
    x_type, w_type = (_code_type(dq) for dq in (x, w))
    if x_type not in (np.uint8, np.int8) or w_type not in (np.uint8, np.int8):
        return None
    shape = w.inputs[0].shape
    if any(not isinstance(d, int) for d in shape) or len(shape) < (1 if node.op == "MatMul" else 2):
        return None
    return w, shape, _furthest(x)


def long_sums(graph: Graph) -> list[str]:
    """Names of the nodes whose sums of products may pass INT32."""
    nodes = [node for scope in scopes(graph) for node in scope.nodes]
    return [n.name for n in nodes if n.op in WEIGHTED and largest_sum(n) > INT32_MAX]


def _code_type(dq: Node) -> np.dtype[Any] | None:
    """The type of the codes that a DequantizeLinear reads; None where NumPy has none."""
    given = len(dq.inputs) > BIAS and not dq.inputs[BIAS].is_empty()
    dtype = dq.inputs[BIAS if given else 0].dtype
    return None if dtype is None or isinstance(dtype, int) else np.dtype(dtype)


def _furthest(dq: Node) -> int:
    """How far an 8-bit code is from that of zero, at most."""
    dtype = np.dtype(np.int8) if _code_type(dq) == np.int8 else np.dtype(np.uint8)
    zero = constant_of(dq.inputs[BIAS]) if len(dq.inputs) > BIAS else None
    z = 0 if zero is None or not zero.size else int(zero.reshape(-1)[0])
    return int(max(z - np.iinfo(dtype).min, np.iinfo(dtype).max - z))


def _summed(node: Node, rank: int) -> tuple[int, ...]:
    """The axes of the weight that a node adds up over."""
    if node.op == "MatMul":
        return (max(rank - 2, 0),)
    return tuple(i for i in range(rank) if i != geometry_of(node).outputs)


def _codes(w: Node) -> Array | None:
    """The codes of a constant weight, stored or behind a QuantizeLinear of a float one."""
    found = constant_of(w.inputs[0])
    before = producer(w.inputs[0])
    if found is not None or before is None or before.op != "QuantizeLinear":
        return found
    values, scale = constant_of(before.inputs[0]), constant_of(before.inputs[1])
    if values is None or scale is None:
        return None
    wide = np.ones(values.ndim, int)
    wide[before.attrs.get("axis", 1)] = scale.size
    codes = values.astype(np.float32) / scale.astype(np.float32).reshape(wide if scale.ndim else ())
    return np.asarray(np.clip(np.rint(codes), -128, 127), np.int8)
