"""Run what is not quantized in FP16 or BF16: types and Casts, as a strongly typed engine wants.

    node in half     float32 inputs and outputs become half
    node kept        float32 throughout; a Cast at each border, one per tensor and direction

Kept in FP32: ops that sum or exponentiate (`SENSITIVE`), ops without a half kernel (`UNSUPPORTED`),
nodes that the caller names (values beyond the range of FP16), nodes with a constant beyond it,
and nodes whose types are unknown. QuantizeLinear and DequantizeLinear follow their data, so the
graph needs opset 19. Inputs and outputs of the graph keep their types unless asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnxq.errors import ModelError
from onnxq.graph import Graph, Node, Tensor

SENSITIVE = frozenset({
    "Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization",
    "RMSNormalization", "Exp", "Log", "Pow", "Reciprocal", "Sqrt", "CumSum", "ReduceSum",
    "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceSumSquare", "LpNormalization",
})  # fmt: skip
UNSUPPORTED = frozenset({
    "Range", "NonMaxSuppression", "RandomNormal", "RandomUniform", "RandomNormalLike",
    "RandomUniformLike", "EyeLike", "GridSample", "RoiAlign", "If", "Loop", "Scan", "Bernoulli",
    "LSTM", "GRU", "RNN", "Einsum", "Upsample",
})  # fmt: skip
# Inputs that are float32 in the operator's definition, whatever the data is.
FIXED_INPUTS: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2)}
FP16_MAX = 65504.0


@dataclass(frozen=True)
class HalfOptions:
    """Which half type, and what stays FP32.

    keep: node name -> reason to stay FP32. io: "keep" the types of the graph's inputs and outputs.
    """

    dtype: Literal["fp16", "bf16"] = "fp16"
    keep: Mapping[str, str] = field(default_factory=dict)
    io: Literal["keep", "half"] = "keep"

    @property
    def onnx_type(self) -> int:
        """The ONNX element type."""
        return int(TensorProto.FLOAT16 if self.dtype == "fp16" else TensorProto.BFLOAT16)


def to_half(graph: Graph, options: HalfOptions | None = None) -> int:
    """Convert in place; returns how many nodes now run in half.

    Raises ModelError below opset 19, where Q/DQ cannot hold half scales.
    """
    options = options or HalfOptions()
    if graph.opset < 19:
        raise ModelError(f"{options.dtype} beside Q/DQ needs opset 19, the graph has "
                         f"{graph.opset}; raise it with passes.raise_opset")  # fmt: skip
    kept = reasons_to_keep(graph, options)
    half_nodes = [n for n in graph.nodes if n.name not in kept and _touches_float(n)]
    caster = _Caster(graph, options)
    if options.io == "half":
        for tensor in graph.inputs:
            caster.make_half(tensor)
    for node in list(graph.nodes):
        caster.convert(node, node.name not in kept)
    caster.restore_outputs()
    graph.cleanup().toposort()
    return len(half_nodes)


def reasons_to_keep(graph: Graph, options: HalfOptions) -> dict[str, str]:
    """Every float node that stays FP32, with the reason."""
    reasons: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in SENSITIVE:
            reasons[node.name] = f"{node.op} is kept in FP32"
        elif node.op in UNSUPPORTED or node.domain not in (None, "", "ai.onnx"):
            reasons[node.name] = f"{node.op} has no half form"
        elif node.name in options.keep:
            reasons[node.name] = options.keep[node.name]
        elif any(t.dtype is None for t in (*node.inputs, *node.outputs) if not t.is_empty()):
            reasons[node.name] = "its types are not known"
        elif options.dtype == "fp16" and any(_too_large(t) for t in node.inputs):
            reasons[node.name] = "a constant is beyond the range of FP16"
    for node in graph.nodes:  # what a body captures must keep the type that the body expects
        for sub in (a for a in node.attrs.values() if isinstance(a, gs.Graph)):
            for name in sub.tensors():
                tensor = graph.tensors().get(name)
                for maker in tensor.inputs if tensor is not None else ():
                    reasons.setdefault(maker.name, f"the body of '{node.name}' reads it")
    return reasons


def _is_float32(tensor: Tensor) -> bool:
    return tensor.dtype is not None and tensor.dtype == np.float32


def _touches_float(node: Node) -> bool:
    return any(_is_float32(t) for t in (*node.inputs, *node.outputs))


def _too_large(tensor: Tensor) -> bool:
    if not isinstance(tensor, gs.Constant) or not _is_float32(tensor):
        return False
    finite = np.abs(tensor.values[np.isfinite(tensor.values)])
    return bool(finite.size) and float(finite.max()) > FP16_MAX


class _Caster:
    """The half twin of every float32 tensor that has one, and the Casts between them."""

    def __init__(self, graph: Graph, options: HalfOptions) -> None:
        self.graph = graph
        self.type = options.onnx_type
        self.keep_io = options.io == "keep"
        self.half: dict[str, Tensor] = {}  # float32 tensor's name -> its half form
        self.single: dict[str, Tensor] = {}  # half tensor's name -> its float32 form

    def make_half(self, tensor: Tensor) -> None:
        """Change a variable's own type to half."""
        tensor.dtype = self._dtype()
        self.half[tensor.name] = tensor

    def convert(self, node: Node, in_half: bool) -> None:
        """Give `node` inputs of its precision, and mark its outputs with it."""
        fixed = FIXED_INPUTS.get(node.op, ())
        for i, tensor in enumerate(node.inputs):
            if in_half and i not in fixed and _is_float32(tensor):
                node.inputs[i] = self._as_half(tensor)
            elif not in_half and tensor.name in self.half and tensor is self.half[tensor.name]:
                node.inputs[i] = self._as_single(tensor)
        if not in_half:
            return
        if node.op == "Cast" and node.attrs.get("to") == TensorProto.FLOAT:
            node.attrs["to"] = self.type
        if node.op == "ConstantOfShape":
            self._half_fill(node)
        for tensor in node.outputs:
            if _is_float32(tensor):
                self.make_half(tensor)

    def restore_outputs(self) -> None:
        """Put a Cast before every output of the graph whose type changed."""
        if not self.keep_io:
            return
        changed: list[Tensor] = [t for t in self.graph.outputs if self.half.get(t.name) is t]
        for tensor in changed:
            inner = gs.Variable(f"{tensor.name}_half", self._dtype(), tensor.shape)
            maker = tensor.inputs[0]
            maker.outputs[maker.outputs.index(tensor)] = inner
            for reader in list(tensor.outputs):
                reader.inputs = [inner if t is tensor else t for t in reader.inputs]
            tensor.dtype = np.float32
            self._cast(inner, tensor, int(TensorProto.FLOAT))

    def _as_half(self, tensor: Tensor) -> Tensor:
        if tensor.name not in self.half:
            self.half[tensor.name] = (
                self._half_constant(tensor)
                if isinstance(tensor, gs.Constant)
                else self._cast(
                    tensor,
                    gs.Variable(f"{tensor.name}_to_half", self._dtype(), tensor.shape),
                    self.type,
                )
            )
        return self.half[tensor.name]

    def _as_single(self, tensor: Tensor) -> Tensor:
        if tensor.name not in self.single:
            out = gs.Variable(f"{tensor.name}_to_float", np.float32, tensor.shape)
            self.single[tensor.name] = self._cast(tensor, out, int(TensorProto.FLOAT))
        return self.single[tensor.name]

    def _cast(self, source: Tensor, out: Tensor, to: int) -> Tensor:
        node = gs.Node("Cast", f"{out.name}_Cast", {"to": to}, [source], [out])
        self.graph.nodes.append(node)
        return out

    def _half_constant(self, tensor: Tensor) -> Tensor:
        name = f"{tensor.name}_half"
        if self.type == TensorProto.FLOAT16:
            limit = np.float32(FP16_MAX)
            values = np.clip(tensor.values, -limit, limit)
            values = np.where(np.isinf(tensor.values), tensor.values, values)
            return gs.Constant(name, values.astype(np.float16))
        return gs.Constant(name, np.asarray(tensor.values), export_dtype=TensorProto.BFLOAT16)

    def _half_fill(self, node: Node) -> None:
        value = node.attrs.get("value")
        filled = np.zeros(1, np.float32) if value is None else np.asarray(value.values)
        if filled.dtype == np.float32:
            node.attrs["value"] = self._half_constant(gs.Constant(node.name, filled))

    def _dtype(self) -> Any:
        return np.float16 if self.type == TensorProto.FLOAT16 else int(TensorProto.BFLOAT16)
