"""What a quantized tensor looks like: the dtype table, `QuantSpec` and `Edge`.

Symmetric quantization throughout: zero point 0, scale = amax / qmax, round half to even,
clamp to [qmin, qmax] (ONNX QuantizeLinear; TensorRT INT8 is -128..127).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx import TensorProto

from onnxq.errors import PlanError


@dataclass(frozen=True)
class DType:
    """One row of the dtype table: `qmin`..`qmax` is the clamp, `amax / qmax` the scale."""

    name: str
    qmin: float
    qmax: float
    onnx_type: int
    min_opset: int


DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        DType("int8", -128, 127, TensorProto.INT8, 10),
        DType("int16", -32768, 32767, TensorProto.INT16, 21),
        DType("int4", -8, 7, TensorProto.INT4, 21),
        DType("fp8", -448, 448, TensorProto.FLOAT8E4M3FN, 19),
    )
}

Granularity = Literal["tensor", "channel"]


@dataclass(frozen=True, order=True)
class Edge:
    """One input of one node: the place a quantizer sits."""

    node: str
    input: int


@dataclass(frozen=True)
class QuantSpec:
    """How one edge is quantized.

    `axis` is the channel axis of a per-channel spec and None otherwise. Raises PlanError for a
    dtype that is not in the table or an axis that contradicts the granularity.
    """

    dtype: str = "int8"
    granularity: Granularity = "tensor"
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise PlanError(f"unknown dtype '{self.dtype}'; choose one of {', '.join(DTYPES)}")
        if self.granularity not in ("tensor", "channel"):
            raise PlanError(f"unknown granularity '{self.granularity}'; choose tensor or channel")
        if (self.granularity == "channel") != (self.axis is not None):
            raise PlanError(
                f"granularity '{self.granularity}' with axis {self.axis}: a channel "
                "spec needs an axis and a tensor spec has none"
            )

    @property
    def row(self) -> DType:
        """The dtype table's row for this spec."""
        return DTYPES[self.dtype]
