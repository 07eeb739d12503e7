"""Run what is not quantized in FP16 or BF16: types and Casts, as a strongly typed engine wants.

    node in half     float32 inputs and outputs become half
    node kept        float32 throughout; a Cast at each border, one per tensor and direction

Kept in FP32: ops that sum or exponentiate (`SENSITIVE`), ops that are not defined for the half type
or have no kernel for it (`UNSUPPORTED`), nodes that the caller names (values beyond the range of
FP16), nodes with a constant or a dequantized input beyond it, with a scale that it cannot hold or a
single value that it rounds to zero, and nodes whose types are unknown. What a node reads is
dequantized in its type (`half_pairs`), so the graph needs opset 19. Inputs and outputs of the graph
keep their types unless asked.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from ml_dtypes import bfloat16
from onnx import TensorProto

from onnxq import fp4
from onnxq.errors import ModelError
from onnxq.model.graph import Graph, Node, Tensor, is_custom
from onnxq.passes.apply import tidy
from onnxq.passes.half_pairs import FP16_MAX, PAIR, beyond_fp16, fit_scales, single_pairs
from onnxq.passes.name_nodes import names_of, new_name

SENSITIVE = frozenset({
    "Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization",
    "RMSNormalization", "Exp", "Log", "Pow", "Reciprocal", "Sqrt", "CumSum", "ReduceSum",
    "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceSumSquare", "LpNormalization",
})  # fmt: skip
UNSUPPORTED = frozenset({
    "Range", "NonMaxSuppression", "RandomNormal", "RandomUniform", "RandomNormalLike",
    "RandomUniformLike", "EyeLike", "GridSample", "RoiAlign", "If", "Loop", "Scan", "Bernoulli",
    "LSTM", "GRU", "RNN", "Einsum", "Upsample", "Constant", "DynamicQuantizeLinear", "QLinearConv",
    "QLinearMatMul", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix", "DFT",
    "STFT",
})  # fmt: skip


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

    @property
    def type_name(self) -> str:
        """The type as operator definitions write it."""
        return "tensor(float16)" if self.dtype == "fp16" else "tensor(bfloat16)"


def to_half(graph: Graph, options: HalfOptions | None = None) -> int:
    """Convert in place; returns how many nodes now run in half.

    Raises ModelError below opset 19, where Q/DQ cannot hold half scales.
    """
    options = options or HalfOptions()
    if graph.opset < 19:
        raise ModelError(f"{options.dtype} beside Q/DQ needs opset 19, the graph has "
                         f"{graph.opset}; raise it with passes.raise_opset")  # fmt: skip
    kept = {*reasons_to_keep(graph, options)}
    kept |= (pairs := single_pairs(graph, kept))
    if options.dtype == "fp16":
        fit_scales(graph, kept)
    nodes = list(graph.nodes)  # without the Casts that come in
    half_nodes = [n for n in nodes if n.name not in kept and _touches_float(n)]
    caster = _Caster(graph, options)
    if options.io == "half":
        caster.halve_inputs(large=kept & {*options.keep, *pairs})
    for node in nodes:
        caster.convert(node, node.name not in kept)
    if options.io == "half":
        caster.halve_outputs()
    else:
        caster.restore_outputs()
    tidy(graph)
    return len(half_nodes)


def reasons_to_keep(graph: Graph, options: HalfOptions) -> dict[str, str]:
    """Every float node that stays FP32, with the reason."""
    reasons: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in SENSITIVE:
            reasons[node.name] = f"{node.op} is kept in FP32"
        elif node.op == fp4.DYNAMIC:
            continue
        elif node.op in UNSUPPORTED or not _writes_half(node, graph.opset, options):
            reasons[node.name] = f"{node.op} has no half form"
        elif node.name in options.keep:
            reasons[node.name] = options.keep[node.name]
        elif any(t.dtype is None for t in (*node.inputs, *node.outputs) if not t.is_empty()):
            reasons[node.name] = "its types are not known"
        elif node.op in PAIR or options.dtype != "fp16":
            continue
        elif (read := next(filter(None, map(beyond_fp16, node.inputs)), None)) is not None:
            reasons[node.name] = read
        elif any(_too_large(t) for t in node.inputs):
            reasons[node.name] = "a constant is beyond the range of FP16"
        elif any(_vanishes(t) for t in node.inputs):
            reasons[node.name] = "a constant is zero in FP16"
    for node in graph.nodes:  # what a body captures must keep the type that the body expects
        for body in node.subgraphs(recursive=True):
            captured = {id(t): t for inner in body.nodes for t in inner.inputs}
            captured |= {id(t): t for t in body.outputs}
            for maker in (n for t in captured.values() for n in t.inputs):
                reasons.setdefault(maker.name, f"the body of '{node.name}' reads it")
    return {n.name: reasons[n.name] for n in graph.nodes if n.name in reasons}


def _schema(node: Node, opset: int) -> Any:
    """The operator's definition in the default domain; None for any other."""
    if is_custom(node):
        return None
    return onnx.defs.get_schema(node.op, opset)


def _allows(schema: Any, formal: Any, type_name: str) -> bool:
    named = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return type_name in named.get(formal.type_str, [formal.type_str])


def _writes_half(node: Node, opset: int, options: HalfOptions) -> bool:
    """Whether every float32 output may be half by the operator's definition."""
    schema = _schema(node, opset)
    return schema is not None and all(
        _allows(schema, schema.outputs[min(i, len(schema.outputs) - 1)], options.type_name)
        for i, tensor in enumerate(node.outputs)
        if _is_float32(tensor)
    )


def _fixed_inputs(node: Node, opset: int, options: HalfOptions) -> set[int]:
    """Inputs that may not be half whatever the data is: the scales of Resize and of FP4."""
    if node.op == fp4.DYNAMIC:
        return {1}
    schema = _schema(node, opset)
    formal = [schema.inputs[min(i, len(schema.inputs) - 1)] for i in range(len(node.inputs))]
    return {i for i, f in enumerate(formal) if not _allows(schema, f, options.type_name)}


def _is_float32(tensor: Tensor) -> bool:
    return tensor.dtype is not None and tensor.dtype == np.float32


def _touches_float(node: Node) -> bool:
    return any(_is_float32(t) for t in (*node.inputs, *node.outputs))


def _too_large(tensor: Tensor) -> bool:
    if not isinstance(tensor, gs.Constant) or not _is_float32(tensor):
        return False
    finite = np.abs(tensor.values[np.isfinite(tensor.values)])
    return bool(finite.size) and float(finite.max()) > FP16_MAX


def _vanishes(tensor: Tensor) -> bool:
    """Whether a single value, such as an epsilon, is not zero but would be in FP16."""
    if not isinstance(tensor, gs.Constant) or not _is_float32(tensor) or tensor.values.size != 1:
        return False
    return bool(tensor.values.any() and not tensor.values.astype(np.float16).any())


class _Caster:
    """The half twin of every float32 tensor that has one, and the Casts between them."""

    def __init__(self, graph: Graph, options: HalfOptions) -> None:
        self.graph = graph
        self.options = options
        self.type = options.onnx_type
        self.dtype = np.dtype(np.float16 if options.dtype == "fp16" else bfloat16)
        self.taken = names_of(graph)
        self.half: dict[str, Tensor] = {}  # float32 tensor's name -> its half form
        self.single: dict[str, Tensor] = {}  # half tensor's name -> its float32 form

    def make_half(self, tensor: Tensor) -> None:
        """Change a variable's own type to half."""
        tensor.dtype = self.dtype
        self.half[tensor.name] = tensor

    def convert(self, node: Node, in_half: bool) -> None:
        """Give `node` inputs of its precision, and mark its outputs with it."""
        fixed = _fixed_inputs(node, self.graph.opset, self.options) if in_half else set()
        for i, tensor in enumerate(node.inputs):
            if in_half and i not in fixed:
                if _is_float32(tensor):
                    node.inputs[i] = self._as_half(tensor)
            elif self.half.get(tensor.name) is tensor:
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

    def halve_inputs(self, large: Container[str]) -> None:
        """Make every float32 input of the graph half that not only nodes named in `large` read;
        bodies of If and Loop still read float32."""
        main = {id(node) for node in self.graph.nodes}
        for tensor in [t for t in self.graph.inputs if _is_float32(t)]:
            if tensor.outputs and all(n.name in large for n in tensor.outputs):
                continue
            self.make_half(tensor)
            for reader in [n for n in tensor.outputs if id(n) not in main]:
                single = self._as_single(tensor)
                reader.inputs = [single if t is tensor else t for t in reader.inputs]

    def restore_outputs(self) -> None:
        """Put a Cast before every output of the graph whose type changed."""
        changed: dict[int, Tensor] = {
            id(t): t for t in self.graph.outputs if self.half.get(t.name) is t
        }
        for tensor in changed.values():  # once, however often the graph lists it
            inner = self._rename(tensor, f"{tensor.name}_half", self.dtype)
            tensor.dtype = np.float32
            self._cast(inner, tensor, int(TensorProto.FLOAT))

    def halve_outputs(self) -> None:
        """Put a Cast before every float32 output of the graph."""
        floats: dict[int, Tensor] = {
            id(t): t for t in self.graph.outputs if t.inputs and _is_float32(t)
        }
        for tensor in floats.values():
            inner = self._rename(tensor, f"{tensor.name}_single", np.float32)
            tensor.dtype = self.dtype
            self._cast(inner, tensor, self.type)

    def _rename(self, output: Tensor, name: str, dtype: Any) -> Tensor:
        """Let what wrote and read an output of the graph write and read a tensor of its own."""
        inner = gs.Variable(new_name(name, self.taken), dtype, output.shape)
        for maker in list(output.inputs):
            maker.outputs = [inner if t is output else t for t in maker.outputs]
        for reader in list(output.outputs):
            reader.inputs = [inner if t is output else t for t in reader.inputs]
        return inner

    def _as_half(self, tensor: Tensor) -> Tensor:
        if tensor.name not in self.half:
            self.half[tensor.name] = (
                self._half_constant(tensor)
                if isinstance(tensor, gs.Constant)
                else self._cast(tensor, self._beside(tensor, "to_half", self.dtype), self.type)
            )
        return self.half[tensor.name]

    def _as_single(self, tensor: Tensor) -> Tensor:
        if tensor.name not in self.single:
            out = self._beside(tensor, "to_float", np.float32)
            self.single[tensor.name] = self._cast(tensor, out, int(TensorProto.FLOAT))
        return self.single[tensor.name]

    def _beside(self, tensor: Tensor, what: str, dtype: Any) -> Tensor:
        return gs.Variable(new_name(f"{tensor.name}_{what}", self.taken), dtype, tensor.shape)

    def _cast(self, source: Tensor, out: Tensor, to: int) -> Tensor:
        name = new_name(f"{out.name}_Cast", self.taken)
        node = gs.Node("Cast", name, {"to": to}, [source], [out])
        self.graph.nodes.append(node)
        return out

    def _half_constant(self, tensor: Tensor) -> Tensor:
        name = new_name(f"{tensor.name}_half", self.taken)
        if self.type == TensorProto.FLOAT16:
            limit = np.float32(FP16_MAX)
            values = np.clip(tensor.values, -limit, limit)
            values = np.where(np.isinf(tensor.values), tensor.values, values)
            return gs.Constant(name, values.astype(np.float16))
        return gs.Constant(name, np.asarray(tensor.values).astype(bfloat16))

    def _half_fill(self, node: Node) -> None:
        value = node.attrs.get("value")
        filled = np.zeros(1, np.float32) if value is None else np.asarray(value.values)
        if filled.dtype == np.float32:
            node.attrs["value"] = self._half_constant(gs.Constant(node.name, filled))
