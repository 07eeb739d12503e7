"""What devices can do by their makers' figures: dense rates and memory bandwidth.

Rates are of the GPU's matrix units without sparsity, at boost clock, in 10^12 operations a second
(a multiply-accumulate is two); bandwidth is in 10^9 bytes a second. No kernel reaches them: they
say which of two precisions is faster where, and roughly by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxq.errors import PlanError


@dataclass(frozen=True)
class Device:
    """One row. rates: 10^12 operations a second by type; gb_s: 10^9 bytes a second.

    "fp32" is TF32 where the device has it.
    """

    title: str
    rates: Mapping[str, float]
    gb_s: float
    source: str

    def rate(self, dtype: str) -> float:
        """Operations a second in a type; raises PlanError where the device has no such units."""
        if dtype not in self.rates:
            raise PlanError(f"{self.title} has no {dtype}; it has {', '.join(self.rates)}")
        return self.rates[dtype] * 1e12


def _rates(int8: float, fp16: float, fp32: float, fp8: float | None = None) -> dict[str, float]:
    rates = {"int8": int8, "fp16": fp16, "bf16": fp16, "fp32": fp32}
    return rates if fp8 is None else {**rates, "fp8": fp8}


DEVICES: dict[str, Device] = {
    "H100": Device(
        "H100 SXM", _rates(1979, 989, 495, 1979), 3350,
        "NVIDIA H100 data sheet, halved: no sparsity",
    ),
    "A100": Device("A100 SXM 80 GB", _rates(624, 312, 156), 2039, "NVIDIA A100 80 GB data sheet"),
    "L4": Device("L4", _rates(242, 121, 60, 242), 300, "NVIDIA L4 data sheet, halved: no sparsity"),
    "T4": Device("T4", _rates(130, 65, 8.1), 300, "NVIDIA T4 data sheet; no BF16, no TF32"),
    "orin": Device(
        "Jetson AGX Orin 64 GB", _rates(85, 42.5, 21.2), 204.8,
        "NVIDIA Jetson AGX Orin technical brief: 170 sparse INT8 TOPS of the GPU, halved; the "
        "other types by the ratios of the Ampere architecture",
    ),
    "orin-nx": Device(
        "Jetson Orin NX 16 GB", _rates(30, 15, 7.5), 102.4,
        "NVIDIA Jetson Orin NX data sheet: 1,024 cores at 918 MHz, by the ratios of AGX Orin",
    ),
    "RTX4090": Device(
        "GeForce RTX 4090", _rates(660.6, 165.2, 82.6, 330.3), 1008,
        "NVIDIA Ada GPU architecture paper; floats with FP32 accumulation",
    ),
}  # fmt: skip


def device(name: str) -> Device:
    """The device of that name, in any case; raises PlanError with the list for another."""
    for key, row in DEVICES.items():
        if key.lower() == name.lower():
            return row
    raise PlanError(f"unknown device '{name}'; choose one of {', '.join(DEVICES)}")
