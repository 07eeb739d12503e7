"""What a quantized tensor looks like: the dtype table, `QuantSpec` and `Edge`.

Symmetric quantization: zero point 0, scale = amax / qmax, round half to even, clamp to
[qmin, qmax] (ONNX QuantizeLinear; TensorRT INT8 is -128..127). The one asymmetric type is uint8,
for activations of the onnxruntime target: scale = (high - low) / 255, low at code 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from onnx import TensorProto

from onnxq.errors import PlanError

LEAST_OPSET = 13  # the first whose Q/DQ has an axis, for scales per channel
HALF_OPSET = 19  # the first whose Q/DQ takes half types


@dataclass(frozen=True)
class DType:
    """One row of the dtype table: `qmin`..`qmax` is the clamp, `amax / qmax` the scale.

    bits: of a code. fixed_scale: the scale whatever the range, None where the range decides.
    min_opset: FP8 came with 19, but only from 21 on does its QuantizeLinear do without a zero point
    (passes.insert_qdq says why).
    """

    name: str
    qmin: float
    qmax: float
    onnx_type: int
    min_opset: int
    bits: int
    fixed_scale: float | None = None

    @property
    def label(self) -> str:
        """As people write it: INT8, FP8; INT4 whatever it is stored in."""
        return {"int4-in-int8": "INT4", "fixed88": "Q8.8"}.get(self.name, self.name.upper())


DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        DType("int8", -128, 127, TensorProto.INT8, 10, 8),
        DType("uint8", 0, 255, TensorProto.UINT8, 10, 8),
        DType("int16", -32768, 32767, TensorProto.INT16, 21, 16),
        DType("fixed88", -32768, 32767, TensorProto.INT16, 21, 16, fixed_scale=1 / 256),
        DType("int4", -8, 7, TensorProto.INT4, 21, 4),
        DType("int4-in-int8", -8, 7, TensorProto.INT8, 10, 4),
        DType("fp8", -448, 448, TensorProto.FLOAT8E4M3FN, 21, 8),
        DType("fp4", -6, 6, TensorProto.FLOAT4E2M1, 23, 4),
        DType("int4-in-fp8", -8, 7, TensorProto.FLOAT8E4M3FN, 21, 4),
    )
}

Granularity = Literal["tensor", "channel", "block"]


@dataclass(frozen=True, order=True)
class Edge:
    """One input of one node: the place a quantizer sits."""

    node: str
    input: int


@dataclass(frozen=True)
class QuantSpec:
    """How one edge is quantized.

    A scale for the whole tensor; or one for each index of `axis` (channel); or, along `axis`, one
    for every `block_size` values at each index of the other axes (block). Raises PlanError for a
    dtype that is not in the table, or an axis or block size that contradicts the granularity.
    """

    dtype: str = "int8"
    granularity: Granularity = "tensor"
    axis: int | None = None
    block_size: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise PlanError(f"unknown dtype '{self.dtype}'; choose one of {', '.join(DTYPES)}")
        if self.granularity not in get_args(Granularity):
            raise PlanError(
                f"unknown granularity '{self.granularity}'; choose tensor, channel or block"
            )
        if (self.granularity == "tensor") != (self.axis is None):
            raise PlanError(
                f"granularity '{self.granularity}' with axis {self.axis}: a channel or block "
                "spec needs an axis and a tensor spec has none"
            )
        if (self.granularity == "block") != (self.block_size is not None):
            raise PlanError(
                f"granularity '{self.granularity}' with block size {self.block_size}: a block "
                "spec needs one and others have none"
            )
        if self.block_size is not None and self.block_size < 2:
            raise PlanError(f"block size {self.block_size}: at least 2 values share a scale")

    @property
    def row(self) -> DType:
        """The dtype table's row for this spec."""
        return DTYPES[self.dtype]

    @property
    def asymmetric(self) -> bool:
        """Whether its codes have no sign, so that zero needs a zero point of its own."""
        return self.row.qmin == 0

    def __str__(self) -> str:
        """As plans are written: `int8 per-tensor`, `int4 per-block 64 axis 0`."""
        if self.axis is None:
            return f"{self.dtype} per-tensor"
        if self.block_size is None:
            return f"{self.dtype} per-channel axis {self.axis}"
        return f"{self.dtype} per-block {self.block_size} axis {self.axis}"

    @staticmethod
    def parse(text: str) -> QuantSpec:
        """The spec that is written as `text`; raises PlanError for anything else."""
        match text.split():
            case [dtype, "per-tensor"]:
                return QuantSpec(dtype)
            case [dtype, "per-channel", "axis", axis] if axis.isdecimal():
                return QuantSpec(dtype, "channel", int(axis))
            case [dtype, "per-block", size, "axis", axis] if axis.isdecimal() and size.isdecimal():
                return QuantSpec(dtype, "block", int(axis), int(size))
        raise PlanError(
            f"'{text}' is not a spec; write 'int8 per-tensor', 'int8 per-channel axis 0' or "
            "'int4 per-block 64 axis 0'"
        )
