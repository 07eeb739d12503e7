"""What a cost was learnt from: a profile, the device fitted to it, and how well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onnxq.cost.blocks import Pays
from onnxq.plan import Plan
from onnxq.words import count

SHOWN = 3  # kernels that fit worst


@dataclass(frozen=True)
class Learnt:
    """Times in milliseconds.

    kernels, nodes_ms: of the profile that have nodes of the model. converting_ms: of those that
    quantize or dequantize; layout_ms: that change a layout; unmapped_kernels, unmapped_ms: of which
    no node is known. float_type: of what is not quantized. tera_macs_s: 10^12
    multiply-accumulates a second by type. limits: how many kernels each of "bytes", "macs" and
    "overhead" takes longest in. median_error, errors: kernel -> the relative error of the
    fit, the worst first. pays: whether few bits do, of the
    first choice.
    """

    kernels: int
    nodes_ms: float
    converting_ms: float
    layout_ms: float
    unmapped_kernels: int
    unmapped_ms: float
    float_type: str
    gb_s: float
    tera_macs_s: Mapping[str, float]
    overhead_ms: float
    limits: Mapping[str, int]
    median_error: float
    errors: Mapping[str, float]
    pays: Pays

    @property
    def total_ms(self) -> float:
        """The sum of the profile."""
        return self.nodes_ms + self.converting_ms + self.layout_ms + self.unmapped_ms

    def lines(self) -> list[str]:
        """Whether few bits pay, what maps to nodes, and what was fitted how well; a line each."""
        rest = ""
        if self.unmapped_kernels or self.unmapped_ms:
            kernels = count(self.unmapped_kernels, "kernel")
            rest = f"; {kernels}, {self.unmapped_ms:.4g} ms, map to no node and are left out"
        worst = ", ".join(f"{n} {100 * e:+.0f}%" for n, e in list(self.errors.items())[:SHOWN])
        rate = self.tera_macs_s.get(self.float_type, 0.0)
        return [
            self.pays.headline,
            f"profile: {count(self.kernels, 'kernel')} with nodes of the model, "
            f"{self.nodes_ms:.4g} of {self.total_ms:.4g} ms{rest}",
            f"fitted: {self.gb_s:.4g} GB/s (limits {self.limits['bytes']}), {rate:.4g} x 10^12 "
            f"multiply-accumulates a second in {self.float_type} ({self.limits['macs']}), "
            f"{1000 * self.overhead_ms:.3g} us a kernel ({self.limits['overhead']})",
            f"error of the fit: median {100 * self.median_error:.0f}%, worst {worst}",
        ]


@dataclass(frozen=True)
class Paying:
    """Whether quantizing pays on a device, and the plan in which what does not is left float; None
    where nothing pays."""

    learnt: Learnt
    plan: Plan | None

    def as_dict(self) -> dict[str, Any]:
        """A JSON document: what the cost was learnt from, and under "pays" the answer."""
        pays = self.learnt.pays
        return {**asdict(self.learnt), "headline": pays.headline, "worth": pays.worth}
