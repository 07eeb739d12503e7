"""A float stand-in for NVFP4, which ONNX Runtime has no kernels for: the same numbers.

    weight       FP4 codes -> DQ(b, s)          a float32 constant, q (b s)
    activation   TRT_FP4DynamicQuantize -> DQ   standard ops, with blocks as an axis of their own

with b = E4M3(max |x| / 6 / s), at least 2^-9, and q = E2M1(x / (b s)): E2M1 is a grid of steps of
0.5 below 2, of 1 below 4, of 2 up to 6. Bit for bit `numerics.fake_quant`.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnxq import fp4
from onnxq.errors import ModelError
from onnxq.model.graph import Graph, Node, Tensor, constant_of, producer, scopes
from onnxq.model.qdq import dequantized, type_name
from onnxq.passes.name_nodes import names_of, new_name

FP8, FLOAT = int(TensorProto.FLOAT8E4M3FN), int(TensorProto.FLOAT)


def floats_for_fp4(graph: Graph) -> int:
    """Replace, in place, what ONNX Runtime cannot run of FP4; how many tensors that were.

    Raises ModelError for an activation whose blocks do not lie along its last axis, or a weight
    whose scales are computed.
    """
    count = 0
    for scope in scopes(graph):
        taken: set[str] | None = None
        for node in list(scope.nodes):
            if node.op == fp4.DYNAMIC:
                taken = names_of(graph) if taken is None else taken
                _Activation(scope, node, taken).replace()
                count += 1
            elif node.op == "DequantizeLinear" and _is_fp4(node.inputs[0]):
                out = node.outputs[0]
                values = _weight(node)
                node.outputs.clear()
                out.to_constant(values)
                count += 1
    if count:
        graph.cleanup().toposort()
    return count


def _is_fp4(tensor: Tensor) -> bool:
    """Whether a tensor is an FP4 constant."""
    stored = producer(tensor) is None and isinstance(tensor, gs.Constant)
    return stored and type_name(tensor.dtype) == "FLOAT4E2M1"


def _weight(node: Node) -> np.ndarray:
    """What the DequantizeLinear of a weight gives."""
    scale = constant_of(node.inputs[1])
    before = producer(node.inputs[1])
    if scale is None and before is not None and before.op == "DequantizeLinear":
        parts = [constant_of(t) for t in before.inputs[:2]]
        if parts[0] is not None and parts[1] is not None:
            scale = dequantized(before, parts[0], parts[1], None).astype(parts[1].dtype)
    codes = constant_of(node.inputs[0])
    if scale is None or codes is None:
        raise ModelError(f"'{node.name}' has computed scales; those of FP4 weights are constant")
    return dequantized(node, codes, scale, None).astype(scale.dtype)


class _Activation:
    """The ops in place of one TRT_FP4DynamicQuantize and the DequantizeLinear behind it."""

    def __init__(self, graph: Graph, node: Node, taken: set[str]) -> None:
        self.graph, self.node, self.taken = graph, node, taken

    def replace(self) -> None:
        """Add them; the readers of the DequantizeLinear read theirs."""
        axis, rank = self.node.attrs.get("axis", 1), len(self.node.inputs[0].shape or ())
        if axis != -1 and (not rank or axis != rank - 1):
            raise ModelError(f"'{self.node.name}' has blocks along axis {axis}; the stand-in for "
                             "ONNX Runtime knows only blocks along the last axis")  # fmt: skip
        readers = [n for n in self.node.outputs[0].outputs if n.op == "DequantizeLinear"]
        if not readers or len(readers) < len(self.node.outputs[0].outputs):
            raise ModelError(f"'{self.node.name}' writes FP4 codes that something but a "
                             "DequantizeLinear reads")  # fmt: skip
        first = readers[0].outputs[0]
        kind = first.dtype if first.dtype is not None else np.float32
        value = self._value()
        for reader in readers:
            out = reader.outputs[0]
            reader.outputs.clear()
            to = {"to": int(TensorProto.DataType.Value(type_name(kind) or "FLOAT"))}
            self._node("Cast", [value], to, out)
        self.node.outputs.clear()

    def _value(self) -> Tensor:
        x, s = (self._op("Cast", [t], to=FLOAT) for t in self.node.inputs[:2])
        shape = self._op("Shape", [x])
        shape.dtype = np.int64
        rank = len(self.node.inputs[0].shape or ())
        blocks = np.array([0] * (rank - 1) + [-1, fp4.BLOCK], np.int64)
        x = self._op("Reshape", [x, self._constant("blocks", blocks)])
        axes = self._constant("axes", np.array([-1], np.int64))
        most = self._op("ReduceMax", [self._op("Abs", [x]), axes], keepdims=1)
        ratio = self._op("Div", [self._op("Div", [most, self._float(fp4.LARGEST)]), s])
        ends = [self._float(fp4.LEAST_SCALE), self._float(fp4.LARGEST_SCALE)]
        b = self._op("Cast", [self._op("Clip", [ratio, *ends])], to=FP8)
        b.dtype = FP8
        scale = self._op("Mul", [self._op("Cast", [b], to=FLOAT), s])
        code = self._op("Div", [x, scale])
        step = self._step(self._op("Abs", [code]))
        near = self._op("Mul", [self._op("Round", [self._op("Div", [code, step])]), step])
        near = self._op("Clip", [near, self._float(-fp4.LARGEST), self._float(fp4.LARGEST)])
        return self._op("Reshape", [self._op("Mul", [near, scale]), shape])

    def _step(self, size: Tensor) -> Tensor:
        below = [self._op("Less", [size, self._float(end)]) for end in (2.0, 4.0)]
        for tensor in below:
            tensor.dtype = np.bool_
        wide = self._op("Where", [below[1], self._float(1.0), self._float(2.0)])
        return self._op("Where", [below[0], self._float(0.5), wide])

    def _float(self, value: float) -> Tensor:
        return self._constant("number", np.array(value, np.float32))

    def _constant(self, what: str, values: np.ndarray) -> Tensor:
        return gs.Constant(new_name(f"{self.node.name}_{what}", self.taken), values)

    def _op(self, op: str, inputs: list[Tensor], **attributes: int) -> Tensor:
        out = gs.Variable(new_name(f"{self.node.name}_{op}", self.taken), np.float32)
        return self._node(op, inputs, attributes, out)

    def _node(
        self, op: str, inputs: list[Tensor], attributes: dict[str, int], out: Tensor
    ) -> Tensor:
        name = new_name(f"{self.node.name}_{op}_node", self.taken)
        self.graph.nodes.append(gs.Node(op, name, attributes, inputs, [out]))
        return out
