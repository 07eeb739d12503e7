"""What a device gave, held against golden outputs, as a table."""

from __future__ import annotations

from rich.console import Group, RenderableType

from onnxq.table import Table
from onnxq.terminal import line
from onnxq.trt.golden import Verdict
from onnxq.words import count


def render(found: Verdict) -> RenderableType:
    """A row a part, and why the answer is no."""
    rows = [
        (name, f"{p.device.sqnr_db:.2f}", f"{p.quantized.sqnr_db:.2f}", f"{p.required_db:.2f}",
         f"{p.worst[1]:.2f} ({p.worst[0]})")
        for name, p in found.parts.items()
    ]  # fmt: skip
    title = f"A device against the float model: {count(found.samples, 'golden sample')}"
    columns = ("output", "device dB", "INT8 dB", "asked", "worst sample")
    exact = [
        line(f"output '{name}': {100 * d.share:.2f}% equal on the device, {100 * q.share:.2f}% in "
             "ONNX Runtime")
        for name, (d, q) in found.exact.items()
    ]  # fmt: skip
    ends = [line(f"MISSED {why}", "red") for why in found.failures]
    good = [] if ends else [line("the device gives what INT8 should")]
    return Group(Table(title, columns, rows), *exact, *ends, *good)
