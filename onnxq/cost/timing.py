"""What a plan takes on a device that was profiled once.

    ms(plan) = sum over parts of  measured * roofline(types in the plan) / roofline(types measured)
             + sum over conversions of  roofline(bytes of a tensor in both types)
             + kernels that change a layout, as measured

A tensor is stored in few bits where every reader quantizes it and what writes it multiplies in few
bits too, or is pointwise. Where a reader quantizes it and it is stored in float, a kernel of its
own converts it, so a row of nodes in INT8 costs one conversion where nodes apart cost one each.
ONNX Runtime multiplies in INT8 only where the result is quantized too; else it dequantizes what is
read, weights among it, and multiplies in float.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from onnxq.cost.blocks import Pays
from onnxq.cost.counted import BITS, STORED, UNIT
from onnxq.cost.fit import Fitted, Row, fit
from onnxq.cost.learnt import Learnt
from onnxq.cost.parts import Mapped, Part, Port, mapped, readers_of
from onnxq.errors import OnnxqError
from onnxq.layers.reading import EngineReading
from onnxq.model.graph import Graph
from onnxq.plan import Plan
from onnxq.run.segments import Shapes
from onnxq.spec import Edge

NOTHING = Plan("", "", {})
APART = "onnxruntime"  # runs a node in few bits only where what it writes is quantized too
FEW = 8  # bits, at most, of what counts as stored in few
POINTWISE = frozenset({
    "Abs", "Add", "Clip", "Div", "Elu", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Max", "Min", "Mish", "Mul", "PRelu", "Relu", "Sigmoid", "Softplus", "Sub", "Tanh",
})  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """The times of a graph's parts, and what they become under a plan.

    high: the type of what is not quantized. readers: see `readers_of`.
    """

    found: Mapped
    device: Fitted
    high: str
    readers: Mapping[str, tuple[Edge, ...]]
    measured: Mapping[str, float]

    @cached_property
    def writers(self) -> Mapping[str, Part]:
        """Tensor -> the part that first writes its values."""
        found: dict[str, Part] = {}
        for part in self.found.parts:
            for port in part.outputs:
                if all(port.origin != read.origin for read in part.inputs):
                    found.setdefault(port.origin, part)
        return found

    @cached_property
    def _values(self) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for part in self.found.parts:
            for port in (*part.outputs, *part.inputs):
                found.setdefault(port.origin, port.values)
        return found

    def total(self, plan: Plan) -> float:
        """Milliseconds of the whole, but for kernels that map to no node."""
        stored = self.stored(plan)
        parts = math.fsum(self.part_ms(part, plan, stored) for part in self.found.parts)
        return parts + self.converting(plan, stored) + self.found.kept_ms

    def converting(self, plan: Plan, stored: Mapping[str, str]) -> float:
        """Milliseconds of the kernels that quantize what is stored in float."""
        return math.fsum(
            self.convert_ms(name, dtype)
            for name, dtypes in self.asked(plan).items() if name not in stored
            for dtype in sorted(dtypes)
        )  # fmt: skip

    def asked(self, plan: Plan) -> dict[str, set[str]]:
        """Tensor -> the types that its readers quantize it to."""
        found = {
            name: {plan.edges[e].dtype for e in edges if e in plan.edges}
            for name, edges in self.readers.items()
        }
        return {name: dtypes for name, dtypes in found.items() if dtypes}

    def stored(self, plan: Plan) -> dict[str, str]:
        """The tensors that a plan stores in few bits, and their types."""
        found = {}
        for name, dtypes in self.asked(plan).items():
            writer = self.writers.get(name)
            alike = len(dtypes) == 1 and all(e in plan.edges for e in self.readers[name])
            if alike and writer is not None and self.writes_few(writer, plan):
                (found[name],) = dtypes
        return found

    def writes_few(self, part: Part, plan: Plan) -> bool:
        """Whether a part can write codes."""
        if part.multiplies:
            return BITS[self._multiplied(part, plan)] <= FEW
        if plan.target == APART:
            return any(n in plan.by_node for n in part.nodes)
        return self.is_pointwise(part) or any(n in plan.by_node for n in part.nodes)

    def is_pointwise(self, part: Part) -> bool:
        """Whether a part may quantize what it writes whatever it reads."""
        return not part.multiplies and part.op in POINTWISE

    def _multiplied(self, part: Part, plan: Plan) -> str:
        """The type of the wider operand of a product."""
        specs = [plan.edges.get(Edge(part.head, i)) for i in (0, 1)]
        return max((s.dtype if s else self.high for s in specs), key=BITS.__getitem__)

    def unit(self, part: Part, plan: Plan) -> str:
        """The type of the matrix unit that a product runs on."""
        dtype = self._multiplied(part, plan)
        specs = [plan.edges.get(Edge(part.head, i)) for i in (0, 1)]
        if any(s is not None and s.dtype == "int4" for s in specs) or dtype in ("int16", "fixed88"):
            return self.high
        return UNIT.get(dtype, dtype)

    def part_ms(self, part: Part, plan: Plan, stored: Mapping[str, str]) -> float:
        """Milliseconds of a part."""
        if plan.target == APART and not all(port.origin in stored for port in part.outputs):
            return self._unfused(part, plan, stored)
        moved = math.fsum(
            port.values * STORED[self._type(port, plan, stored)] / 8
            for port in (*part.inputs, *part.outputs)
        )
        for edge, values in part.weights:
            spec = plan.edges.get(edge)
            moved += values * STORED[spec.dtype if spec else self.high] / 8
        unit = self.unit(part, plan) if part.multiplies else self.high
        before = self.device.ms(*_profiled(part, self.high))
        return self.measured[part.head] * self.device.ms(moved, part.macs, unit) / before

    def _unfused(self, part: Part, plan: Plan, stored: Mapping[str, str]) -> float:
        """Milliseconds of a part in float, with a kernel that dequantizes each codes it reads."""
        asked = [e for port in part.inputs for e in port.edges if e in plan.edges]
        floats = replace(plan, target="", edges={e: s for e, s in plan.edges.items()
                                                 if e.node not in part.nodes})  # fmt: skip
        own = self.part_ms(part, floats, {})
        few = {port.origin: stored.get(port.origin, "int8") for port in part.inputs
               if port.origin in stored or set(port.edges) & set(asked)}  # fmt: skip
        weights = sum(n for e, n in part.weights if e in plan.edges)
        bits = (STORED[self.high] + 8) / 8
        own += self.device.ms(weights * bits, 0.0, self.high) if weights else 0.0
        return own + math.fsum(self.convert_ms(name, dtype) for name, dtype in few.items())

    def _type(self, port: Port, plan: Plan, stored: Mapping[str, str]) -> str:
        specs = [plan.edges[e] for e in port.edges if e in plan.edges]
        return specs[0].dtype if specs else stored.get(port.origin, self.high)

    def convert_ms(self, tensor: str, dtype: str) -> float:
        """Milliseconds of a kernel that quantizes a tensor."""
        bits = STORED[self.high] + STORED[dtype]
        return self.device.ms(self._values.get(tensor, 0.0) * bits / 8, 0.0, self.high)

    def learnt(self, pays: Pays) -> Learnt:
        """What maps to nodes, the device as it was fitted, and how well."""
        found, device = self.found, self.device
        return Learnt(
            kernels=len(found.kernels),
            nodes_ms=math.fsum(kernel.ms for kernel in found.kernels),
            converting_ms=math.fsum(ms for _, _, ms in found.turns),
            layout_ms=found.kept_ms,
            unmapped_kernels=found.lost,
            unmapped_ms=found.lost_ms,
            float_type=self.high,
            gb_s=device.bandwidth / 1e6,
            tera_macs_s={name: rate / 1e9 for name, rate in device.rates.items()},
            overhead_ms=device.overhead,
            limits=device.limits,
            median_error=device.median_error,
            errors=device.errors,
            pays=pays,
        )


def timing_of(
    graph: Graph, reading: EngineReading, shapes: Shapes, high: str, ratios: Mapping[str, float]
) -> Timing:
    """The times of a graph's parts by one profile.

    high: the type of what stays float, where the layers do not tell one: of an engine that they say
    to run floats in FP16, what stays float is FP16. Raises OnnxqError for a profile of another
    model, or with too few nodes of it.
    """
    found = mapped(graph, reading, shapes)
    high = found.high or high
    parts: dict[str, list[Part]] = {}
    for part in found.parts:
        parts.setdefault(part.layer, []).append(part)
    rows = []
    for kernel in found.kernels:
        sums = [_profiled(part, high) for part in parts[kernel.nodes[0]]]
        rows.append(Row(kernel.nodes[0], math.fsum(s[0] for s in sums),
                        math.fsum(s[1] for s in sums), sums[0][2], kernel.ms))  # fmt: skip
    rows += [Row(name, moved, 0.0, high, ms) for name, moved, ms in found.turns]
    device = fit(rows, ratios)
    measured = {}
    for kernel in found.kernels:
        mine = parts[kernel.nodes[0]]
        each = [device.ms(*_profiled(part, high)) for part in mine]
        for part, ms in zip(mine, each, strict=True):
            measured[part.head] = kernel.ms * ms / math.fsum(each)
    return Timing(found, device, high, readers_of(graph, found.of_node), measured)


def _profiled(part: Part, high: str) -> tuple[float, float, str]:
    """What a part moved, multiplied, and in which type, where it was measured."""
    ports: Iterable[Port] = (*part.inputs, *part.outputs)
    moved = math.fsum(port.values * STORED[port.type or high] / 8 for port in ports)
    moved += sum(values for _, values in part.weights) * STORED[part.type or high] / 8
    return moved, part.macs, part.type or high


def read_profile(
    graph: Graph, profile: str | Path, layers: str | Path | None = None
) -> EngineReading:
    """A profile, with the layers of its engine where they are given, read against a graph; raises
    OnnxqError in one line for files that are no such thing."""
    from onnxq.layers.info import Layer, LayerInfo, load_layers
    from onnxq.layers.names import is_quantizer, named
    from onnxq.layers.profile import load_profile
    from onnxq.layers.reading import Model, read

    times = load_profile(profile)
    known = Model({node.name: node.op for node in graph.nodes}, {})
    if layers is not None:
        return timed(read(load_layers(layers), times, known))
    names = [name for name, _ in times.times]
    if any(is_quantizer(n) for name in names for n in named(name).nodes):
        raise OnnxqError(f"'{profile}' is from an engine with Q/DQ, and a profile does not tell "
                         "types; give its layer info by --layers")  # fmt: skip
    return timed(read(LayerInfo(tuple(map(Layer, names)), (), False, times.path), times, known))


def timed(reading: EngineReading) -> EngineReading:
    """The reading; raises OnnxqError where it has no time of a node of the model, or where most of
    it is of nodes that the model has not: names such as Conv_9 are in many."""
    copies = {copy.layer for copy in reading.copies}
    own = math.fsum(t.ms or 0.0 for t in reading.timed if t.said.nodes)
    others = [t for t in reading.timed if t.ms and not (t.said.nodes or t.said.hidden
              or t.said.beside or t.layer.name in copies or t.layer.copies)]  # fmt: skip
    if not own:
        raise OnnxqError(f"'{reading.info.path}' has no time of a node of the model: it belongs "
                         "to another model, or its nodes have other names")  # fmt: skip
    if math.fsum(t.ms or 0.0 for t in others) > own:
        strange = others[0].layer.name[:60]
        raise OnnxqError(f"'{reading.info.path}' is of another model: most of its time goes to "
                         f"nodes that this one does not have, such as '{strange}'")  # fmt: skip
    return reading
