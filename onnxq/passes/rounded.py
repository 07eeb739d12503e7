"""The nodes whose bias or weight ONNX Runtime rounds as it loads a Q/DQ model.

    DequantizeLinear -> Conv, ConvTranspose or Gemm -> (Relu, Clip) -> QuantizeLinear

In a session with default options the optimizer WeightBiasQuantization makes of their float bias
INT32 codes in steps of (x scale x weight scale), as its integer kernels add them, and of a float
weight INT8 codes with one scale. It works in the type of the scales. What it looks for here is
what it finds after it has moved Q/DQ through ops that only pass values on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxq.graph import (
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
from onnxq.passes.split_shared import weight_axis

Array = npt.NDArray[Any]
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
                if before is not None and _is_one(before.inputs[1]) and _goes_to_codes(node):
                    yield scope, node


def concats_of_codes(graph: Graph) -> list[str]:
    """The Concats all of whose inputs are dequantized: ONNX Runtime makes QLinearConcat of them."""
    return [
        node.name
        for scope in scopes(graph)
        for node in scope.nodes
        if node.op == "Concat" and all(map(dequantizer, node.inputs))
    ]


def dequantizer(tensor: Tensor) -> Node | None:
    """The DequantizeLinear that writes `tensor`."""
    node = producer(tensor)
    return node if node is not None and node.op == "DequantizeLinear" else None


def _is_one(scale: Tensor) -> bool:
    return scale.shape is not None and tuple(scale.shape) in ((), (1,))


def bias_of(node: Node) -> Array | None:
    """The constant bias, one value a channel; None where there is none or it has another form."""
    bias = constant_of(node.inputs[BIAS]) if len(node.inputs) > BIAS else None
    return bias if bias is not None and bias.ndim == 1 else None


def _goes_to_codes(node: Node) -> bool:
    while True:
        readers = {id(n): n for n in node.outputs[0].outputs}
        if len(node.outputs) != 1 or len(readers) != 1:
            return False
        (node,) = readers.values()
        if node.op == "QuantizeLinear":
            return True
        if node.op not in (*CLIPS, *PASSED):
            return False


def loses_bias(node: Node) -> bool:
    """Whether the codes of the bias, or their sum with the products, are beyond INT32, or beyond
    FP16 where the scales are FP16."""
    x, w, bias = dequantizer(behind(node.inputs[0], PASSED)), dequantizer(node.inputs[1]), None
    if x is None or w is None or w.attrs.get("block_size", 0) or (bias := bias_of(node)) is None:
        return False
    sx, sw = (constant_of(dq.inputs[1]) for dq in (x, w))
    if sx is None or sw is None or sw.dtype not in (np.float32, np.float16):
        return False
    with np.errstate(all="ignore"):
        step = (sx.astype(np.float32) * sw.astype(np.float32)).astype(sw.dtype)
        codes = np.rint((bias.astype(np.float32) / step.astype(np.float32)).astype(step.dtype))
    most = np.abs(codes.astype(np.float64))
    if not np.isfinite(most[bias != 0]).all():
        return True
    most[bias == 0] = 0
    return bool((most + largest_sum(node)).max(initial=0) > INT32_MAX)


def largest_sum(node: Node) -> float:
    """A bound of the sums of products of 8-bit codes that a node adds up, in any channel; 0 where
    its codes are of other types, or not known."""
    x, w = dequantizer(behind(node.inputs[0], PASSED)), dequantizer(node.inputs[1])
    if x is None or w is None or w.attrs.get("block_size", 0) or w.inputs[0].shape is None:
        return 0
    x_type, w_type = (_code_type(dq) for dq in (x, w))
    if x_type not in (np.uint8, np.int8) or w_type not in (np.uint8, np.int8):
        return 0
    most = _furthest(x, x_type)
    shape = w.inputs[0].shape
    if any(not isinstance(d, int) for d in shape) or len(shape) < (1 if node.op == "MatMul" else 2):
        return 0
    summed = _summed(node, len(shape))
    terms = int(np.prod([shape[i] for i in summed]))
    if terms * most * 128 <= INT32_MAX // 4:  # as of nearly all: no weight need be read
        return terms * most * 128
    codes = _codes(w) if w_type == np.int8 else None
    if codes is None:
        return terms * most * _furthest(w, w_type)
    return most * float(np.abs(codes.astype(np.int16)).sum(axis=summed, dtype=np.int64).max())


def long_sums(graph: Graph) -> list[str]:
    """Names of the nodes whose sums of products may pass INT32."""
    nodes = [node for scope in scopes(graph) for node in scope.nodes]
    return [n.name for n in nodes if n.op in WEIGHTED and largest_sum(n) > INT32_MAX]


def _code_type(dq: Node) -> np.dtype[Any] | None:
    """The type of the codes that a DequantizeLinear reads; None where NumPy has none."""
    given = len(dq.inputs) > BIAS and not dq.inputs[BIAS].is_empty()
    dtype = dq.inputs[BIAS if given else 0].dtype
    return None if dtype is None or isinstance(dtype, int) else np.dtype(dtype)


def _furthest(dq: Node, dtype: np.dtype[Any]) -> int:
    """How far a code is from that of zero, at most."""
    zero = constant_of(dq.inputs[BIAS]) if len(dq.inputs) > BIAS else None
    z = 0 if zero is None or not zero.size else int(zero.reshape(-1)[0])
    return int(max(z - np.iinfo(dtype).min, np.iinfo(dtype).max - z))


def _summed(node: Node, rank: int) -> tuple[int, ...]:
    """The axes of the weight that a node adds up over."""
    if node.op == "MatMul":
        return (max(rank - 2, 0),)
    return tuple(i for i in range(rank) if i != weight_axis(node))


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
