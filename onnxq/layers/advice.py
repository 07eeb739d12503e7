"""What costs most in an engine, and what to change about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxq.layers.copies import Copy
from onnxq.layers.info import DETAILED, FLOATS, LOW
from onnxq.layers.names import is_quantizer
from onnxq.layers.reading import EngineReading, Residual, Timed, is_product

NARROW = 16  # channels below which INT8 gains nothing


@dataclass(frozen=True)
class Cost:
    """A layer, its time, and what to change; "" where nothing is known that helps."""

    layer: str
    nodes: tuple[str, ...]
    precision: str
    ms: float
    share: float
    change: str


def costs(reading: EngineReading, most: int = 10) -> list[Cost]:
    """The layers that take longest, the longest first; none without a profile."""
    total = reading.total_ms
    if not total:
        return []
    ranked = sorted(reading.timed, key=lambda t: -(t.ms or 0.0))[:most]
    copies = {copy.layer: copy for copy in reading.copies}
    adds = {residual.node: residual for residual in reading.residuals}
    return [
        Cost(
            t.layer.name, _nodes(t), copies[t.layer.name].kind if t.layer.name in copies
            else t.layer.precision, t.ms, t.ms / total, _change(reading, t, copies, adds),
        )
        for t in ranked if t.ms
    ]  # fmt: skip


def _nodes(t: Timed) -> tuple[str, ...]:
    own = [n for n in t.said.nodes if not is_quantizer(n)]
    return tuple(own) or t.said.nodes or t.said.beside


def _change(
    reading: EngineReading, t: Timed, copies: Mapping[str, Copy], adds: Mapping[str, Residual]
) -> str:
    if t.said.hidden:
        return f"which nodes it runs is not told; build with {DETAILED}"
    if t.layer.name in copies:
        return _of_copy(reading, copies[t.layer.name])
    for residual in (adds[n] for n in t.said.nodes if n in adds):
        if t.layer.precision in LOW and residual.skip in FLOATS:
            return f"the branch that {residual.node} adds is {residual.skip}: give it Q/DQ too"
    if not t.layer.weighted:
        low = any(x.layer.precision in LOW for x in reading.weighted)
        return _of_float(t) if low and t.layer.precision in FLOATS else ""
    return _of_product(reading, t)


def _of_product(reading: EngineReading, t: Timed) -> str:
    products = [n for n in t.said.nodes if is_product(n, reading.model)]
    name, runs = (products or ["it"])[0], t.layer.precision
    meant = reading.model.meant.get(name) if reading.model else None
    if meant and meant != runs:
        return f"its Q/DQ asks for {meant}: 'onnxq lint' says why TensorRT runs {runs}"
    if runs in LOW:
        channels = t.layer.outputs[0].shape[1:2] if t.layer.outputs else ()
        if channels and channels[0] < NARROW:
            return f"{channels[0]} channels: float may be as fast; --skip {name}"
        return ""
    if runs == "fp32":
        return "it runs in fp32: --high-precision fp16"
    return f"it has no Q/DQ: 'onnxq plan' says why {name} stays float" if reading.model else ""


def _of_float(t: Timed) -> str:
    out = t.layer.outputs[0].type if t.layer.outputs else "?"
    if out in LOW:
        return ""
    return f"it stands in {t.layer.precision} among INT8: Q/DQ on its input would let INT8 through"


def _of_copy(reading: EngineReading, copy: Copy) -> str:
    if copy.ends:
        return "it converts what the network is given or gives: ask for that type and layout " \
               "there (trtexec --inputIOFormats, --outputIOFormats)"  # fmt: skip
    for residual in reading.residuals:
        writer = next((t for t in reading.timed if residual.node in t.said.nodes), None)
        wrote = {p.name for p in writer.layer.outputs} if writer else set()
        if copy.tensor in wrote and residual.skip in FLOATS and copy.kind == "quantize":
            return f"{residual.node} adds a {residual.skip} branch, so its sum is " \
                   f"{residual.out}: give that branch Q/DQ"  # fmt: skip
    if copy.kind == "requantize":
        return "the same values with two scales: share one (--concat share, or tied in plan.yaml)"
    if copy.kind in ("quantize", "dequantize"):
        return "on one side INT8, on the other float: quantize both sides or neither (--skip)"
    return "a layout that the next kernel asks for"
