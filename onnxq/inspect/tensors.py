"""The quantized tensors of a Q/DQ model, whichever tool wrote it.

    x -> Q -> DQ                      an activation, or a weight kept in float
    x -> Cast -> Q -> DQ -> Cast      the same in a half graph
    x -> Q -> Clip -> DQ              codes of fewer bits than they are stored in (QCDQ)
    codes -> DQ                       a weight stored as codes, or a bias as INT32

A tensor goes by its name in the float model, as far as the quantized one keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnxq import fp4
from onnxq.arrays import Array
from onnxq.model.graph import Node, Tensor, behind, constant_of, producer
from onnxq.model.qdq import (
    Qdq,
    Quantizer,
    dequantized,
    gives_scales,
    is_constant,
    spread_for,
)

Kind = Literal["activation", "weight", "bias"]

THROUGH = ("Cast", "Identity")  # between a tensor and its Q, and between its DQ and a reader
SUFFIXES = ("_quantized", "_QuantizeLinear_Input")  # what tools add to the name of a tensor
LIMITS: dict[str, tuple[float, float]] = {
    "INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767), "UINT16": (0, 65535),
    "INT4": (-8, 7), "UINT4": (0, 15), "INT32": (-(2**31), 2**31 - 1),
    "FLOAT8E4M3FN": (-448, 448), "FLOAT8E5M2": (-57344, 57344),
    "FLOAT4E2M1": (-fp4.LARGEST, fp4.LARGEST),
}  # fmt: skip
LABELS = {"FLOAT8E4M3FN": "FP8", "FLOAT8E5M2": "FP8 E5M2", "FLOAT4E2M1": "FP4"}
FOUR_BITS = LIMITS["INT4"]


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """One quantized tensor.

    name: of the float tensor. storage: ONNX type of its codes. scale: None where it is computed;
    zero_point: None where there is none. axis: None for one scale a tensor. block_size: 0 without
    blocks. bounds: of a Clip between Q and DQ, else None. values: what is quantized, or, if
    `stored`, the codes. dynamic: whether its blocks get their scales as it is computed; `scale` is
    then that of the tensor.
    """

    name: str
    kind: Kind
    storage: str
    scale: Array | None
    zero_point: Array | None
    axis: int | None
    block_size: int
    stored: bool
    bounds: tuple[float, float] | None
    values: Tensor = field(repr=False)
    dequantize: Node = field(repr=False)
    dynamic: bool = False

    @property
    def granularity(self) -> str:
        """tensor, channel or block."""
        return "tensor" if self.axis is None else "block" if self.block_size else "channel"

    @property
    def limits(self) -> tuple[float, float] | None:
        """Least and largest code; None for a type that has no limits known here."""
        return self.bounds or LIMITS.get(self.storage)

    @cached_property
    def label(self) -> str:
        """Its type as people write it: INT8, FP8; INT4 whatever it is stored in."""
        if self.storage == "INT16" and self.scale is not None and np.all(self.scale == 1 / 256):
            return "Q8.8"
        if self.storage in ("INT8", "FLOAT8E4M3FN") and self._has_four_bits():
            return "INT4"
        return LABELS.get(self.storage, self.storage)

    @property
    def spec(self) -> str:
        """`INT8 per-channel axis 0`, as plans are written."""
        if self.axis is None:
            return f"{self.label} per-tensor"
        size = f" {self.block_size}" if self.block_size else ""
        return f"{self.label} per-{self.granularity}{size} axis {self.axis}"

    @property
    def codes(self) -> Array | None:
        """The codes of a constant, of its shape, integers or float32; None for what is computed.

        Not kept: a model may have gigabytes of them.
        """
        values = constant_of(self.values)
        if values is None or self.scale is None:
            return None
        if self.stored:
            return values if values.dtype.kind in "iu" else values.astype(np.float32)
        low, high = self.limits or (-np.inf, np.inf)
        zero = np.zeros_like(self.scale) if self.zero_point is None else self.zero_point
        scale, zero = (self._spread(v, values.shape) for v in (self.scale, zero))
        steps = values.astype(np.float64) / scale
        if not self.storage.startswith("FLOAT"):
            return np.asarray(np.clip(np.rint(steps) + zero, low, high), np.float32)
        kind = tensor_dtype_to_np_dtype(TensorProto.DataType.Value(self.storage))
        return np.clip(steps, low, high).astype(np.float32).astype(kind).astype(np.float32)

    @property
    def floats(self) -> Array | None:
        """The values that the codes of a constant stand for, float64; None for what is computed."""
        codes = self.codes
        if codes is None or self.scale is None:
            return None
        return dequantized(self.dequantize, codes, self.scale, self.zero_point)

    @property
    def at_end(self) -> float | None:
        """Share of a constant's codes that are the least or the largest; None if not known."""
        codes = self.codes
        if codes is None or self.limits is None or not codes.size:
            return None
        low, high = self.limits
        return float(np.mean((codes <= max(low, -high)) | (codes >= high)))

    @property
    def interval(self) -> tuple[float, float] | None:
        """What a tensor with one scale can hold, low and high; symmetric where it has no zero
        point. None for other tensors."""
        if self.scale is None or self.scale.size != 1 or self.limits is None:
            return None
        (low, high), scale = self.limits, float(self.scale.reshape(()))
        scale *= fp4.LARGEST_SCALE if self.dynamic else 1
        zero = 0.0 if self.zero_point is None else float(self.zero_point.reshape(-1)[0])
        least = low if zero else max(low, -high)
        return (least - zero) * scale, (high - zero) * scale

    @cached_property
    def grid(self) -> tuple[object, ...]:
        """Equal for two that round to the same steps: type, scale and zero point."""
        numbers = (None if v is None else v.tobytes() for v in (self.scale, self.zero_point))
        return (self.storage, self.bounds, self.axis, self.block_size, *numbers)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two Q/DQ that do the same to the same tensor."""
        return (self.name, *self.grid)

    def _spread(self, values: Array, shape: tuple[int, ...]) -> Array:
        return spread_for(self.dequantize, values.astype(np.float64), shape)

    def _has_four_bits(self) -> bool:
        codes = self.codes if self.kind == "weight" and self.bounds is None else None
        if codes is None or not codes.size:
            return self.bounds == FOUR_BITS
        low, high = FOUR_BITS
        inside = bool(codes.any()) and low <= codes.min() and codes.max() <= high
        return inside and bool(np.all(codes == np.rint(codes)))


def quantized_by(qdq: Qdq, dequantizer: Quantizer) -> QuantizedTensor:
    """The tensor that a DequantizeLinear gives."""
    tensor, bounds = dequantizer.data, None
    node = producer(tensor)
    while node is not None and node.op in ("Clip", *THROUGH):
        bounds = _bounds(node) if node.op == "Clip" else bounds
        tensor = node.inputs[0]
        node = producer(tensor)
    before = qdq.quantizer(tensor)
    stored = before is None or not before.quantizes
    if before is not None and before.quantizes:
        tensor = behind(before.data, THROUGH)
    scale, zero_point = dequantizer.scale, dequantizer.zero_point
    if scale is None and before is not None:
        scale = before.scale
    several = scale is not None and scale.size > 1
    axis = dequantizer.axis if dequantizer.axis is not None else 1
    storage = dequantizer.dtype or (before.dtype if before else None) or "unknown"
    constant = is_constant(tensor)
    kind: Kind = "activation"
    if constant:
        kind = "bias" if storage == "INT32" else "weight"
    return QuantizedTensor(
        _plain(tensor.name) if stored else tensor.name, kind, storage, scale, zero_point,
        axis if several or dequantizer.dynamic else None, dequantizer.block_size, stored, bounds,
        tensor, dequantizer.node, dequantizer.dynamic,
    )  # fmt: skip


def between(qdq: Qdq) -> Iterator[Node]:
    """The nodes that are part of quantization: Q, DQ, and the Casts and Clips that go with them."""
    for quantizer in qdq.quantizers:
        yield quantizer.node
        node = producer(quantizer.data)
        inner = THROUGH if quantizer.quantizes else ("Clip", *THROUGH)
        while node is not None and node.op in inner and _serves_alone(node):
            yield node
            node = producer(node.inputs[0])
        if not quantizer.quantizes:
            yield from filter(gives_scales, quantizer.node.inputs[1].inputs)
            yield from (n for n in quantizer.out.outputs if n.op in THROUGH)


def _serves_alone(node: Node) -> bool:
    """Whether only Q/DQ, or what goes with them, read `node`: no output of a graph does either."""
    readers = node.outputs[0].outputs
    inner = ("QuantizeLinear", "DequantizeLinear", fp4.DYNAMIC, "Clip", *THROUGH)
    return bool(readers) and all(n.op in inner for n in readers)


def _bounds(clip: Node) -> tuple[float, float] | None:
    ends = [constant_of(t) for t in clip.inputs[1:3] if not t.is_empty()]
    if len(ends) != 2 or any(e is None for e in ends):
        return None
    low, high = (float(e.astype(np.float64)) for e in ends if e is not None)
    return low, high


def _plain(name: str) -> str:
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name
