"""What a node costs under a plan, and a plan relative to the model without Q/DQ.

    ops       multiply-accumulates * bits of the widest operand
    bytes     the bytes of inputs, weights and outputs, each in its own type
    roofline  max(2 * multiply-accumulates / rate of the device, bytes / bandwidth)   in seconds

Costs add up over the nodes with weights and those the plan quantizes; other nodes are taken to
be fused into them. A node writes its output in the type of its widest activation. A node without
weights, such as a residual Add, counts an operation a value, of the mean of its operands' bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

from onnxq.errors import ModelError, PlanError
from onnxq.graph import WEIGHTED, Graph, Node, constant_of
from onnxq.plan import Plan
from onnxq.search.devices import DEVICES, device
from onnxq.segments import Shapes
from onnxq.sensitivity.cost import macs
from onnxq.spec import Edge

BITS = {"int4": 4, "int8": 8, "fp8": 8, "fp16": 16, "bf16": 16, "int16": 16, "fp32": 32}
MODELS = ("ops", "bytes", "roofline:DEVICE", "ort")
MEASURED = ("ort",)  # costs that are measured; the integer program works with "ops"
Types = tuple[list[str], str]  # of a node's inputs, and of its output


@dataclass(frozen=True)
class Costs:
    """The cost of each costed node by its choice, in shares of the whole model without Q/DQ.

    of: node -> choice -> cost. macs: node -> multiply-accumulates. The choice "float" is there
    for every node.
    """

    of: Mapping[str, Mapping[str, float]]
    macs: Mapping[str, int]

    def total(self, chosen: Mapping[str, str]) -> float:
        """The cost of a model; nodes that `chosen` does not name are float."""
        return sum(costs[chosen.get(node, "float")] for node, costs in self.of.items())

    def share(self, chosen: Mapping[str, str]) -> float:
        """Share, 0 to 1, of the multiply-accumulates in nodes that are not float."""
        quantized = sum(n for node, n in self.macs.items() if chosen.get(node, "float") != "float")
        return quantized / max(sum(self.macs.values()), 1)


def check(model: str) -> None:
    """Raises PlanError for a cost model that is not known, or a device that is not in the table."""
    name, _, where = model.partition(":")
    if name == "engine":
        raise PlanError(
            "cost 'engine' needs a GPU and TensorRT to time engines on, and is not there yet; "
            f"choose {', '.join(MODELS)}"
        )
    if name == "roofline" and not where:
        raise PlanError(f"cost 'roofline' needs a device: roofline:{next(iter(DEVICES))}, ... "
                        f"of {', '.join(DEVICES)}")  # fmt: skip
    if name == "roofline":
        device(where)
    elif model not in MODELS:
        raise PlanError(f"unknown cost '{model}'; choose {', '.join(MODELS)}")


def costs(graph: Graph, plans: Mapping[str, Plan], high: str, shapes: Shapes, model: str) -> Costs:
    """The costs of a prepared graph under each of `plans` (choice -> plan), and float.

    high: the type of what is not quantized. shapes: of the tensors. Raises ModelError where too
    little of them is known, PlanError as `check` does.
    """
    check(model)
    cost = _function(model)
    every: dict[str, Plan] = {**plans, "float": Plan("", "", {})}
    named = {node for plan in plans.values() for node in plan.nodes}
    nodes = [n for n in graph.nodes if n.name in named or n.op in WEIGHTED]
    found = {
        node.name: {c: cost(node, _types(node, p, high), shapes) for c, p in every.items()}
        for node in nodes
    }
    whole = sum(costs["float"] for costs in found.values())
    if not whole > 0:
        raise ModelError("no costs without shapes: give the model fixed or inferable shapes")
    relative = {n: {c: x / whole for c, x in costs.items()} for n, costs in found.items()}
    return Costs(relative, {node.name: macs(node, shapes) for node in nodes})


def _function(model: str) -> Callable[[Node, Types, Shapes], float]:
    name, _, where = model.partition(":")
    if name == "roofline":
        return partial(_roofline, where)
    return {"ops": _ops, "bytes": _bytes, "ort": _ops}[name]


def _types(node: Node, plan: Plan, high: str) -> Types:
    specs = [plan.edges.get(Edge(node.name, i)) for i in range(len(node.inputs))]
    inputs = [spec.dtype if spec else high for spec in specs]
    live = [t for t, x in zip(inputs, node.inputs, strict=True) if constant_of(x) is None]
    return inputs, _widest(live or inputs)


def _widest(types: list[str]) -> str:
    return max(types, key=BITS.__getitem__)


def _compute(types: list[str]) -> str:
    """The type a node with weights computes in: that of its widest operand, the bias aside."""
    return _widest(types[:2])


def _ops(node: Node, types: Types, shapes: Shapes) -> float:
    inputs = types[0]
    if node.op in WEIGHTED:
        return macs(node, shapes) * BITS[_compute(inputs)]
    values = prod(shapes.get(node.outputs[0].name, (0,)))
    return values * sum(BITS[t] for t in inputs) / max(len(inputs), 1)


def _bytes(node: Node, types: Types, shapes: Shapes) -> float:
    moved = 0.0
    for tensor, dtype in zip(node.inputs, types[0], strict=True):
        values = constant_of(tensor)
        shape = shapes.get(tensor.name, ()) if values is None else values.shape
        moved += prod(shape) * BITS[dtype] / 8
    return moved + sum(prod(shapes.get(t.name, (0,))) for t in node.outputs) * BITS[types[1]] / 8


def _roofline(name: str, node: Node, types: Types, shapes: Shapes) -> float:
    where = device(name)
    compute = _compute(types[0])
    if compute == "int16":  # no matrix unit takes it: it is computed in FP16
        compute = "fp16"
    seconds = 2 * macs(node, shapes) / where.rate(compute)
    return max(seconds, _bytes(node, types, shapes) / (where.gb_s * 1e9))
