"""What a node costs under a plan by counting, and a plan relative to the model without Q/DQ.

    ops       multiply-accumulates * bits of the widest operand
    bytes     the bytes of inputs, weights and outputs, each in the type it is stored in
    size      the bytes of its weights, in as many bits as their codes have; of a product of two
              activations those of the smaller operand, which is in the place of weights
    roofline  max(2 * multiply-accumulates / rate of the device, bytes / bandwidth)   in seconds

Costs add up over the nodes with weights and those the plan quantizes; other nodes are taken to
be fused into them. A node writes its output in the type of its widest activation. A node without
weights, such as a residual Add, counts an operation a value, of the mean of its operands' bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

from onnx import TensorProto

from onnxq.cost.devices import DEVICES, device
from onnxq.cost.learnt import Learnt
from onnxq.errors import ModelError, PlanError
from onnxq.model.graph import WEIGHTED, Graph, Node, constant_of
from onnxq.plan import Plan
from onnxq.run.macs import macs
from onnxq.run.segments import Shapes
from onnxq.spec import DTYPES, Edge
from onnxq.targets.options import weight_input

BITS = {"fp16": 16, "bf16": 16, "fp32": 32} | {name: row.bits for name, row in DTYPES.items()}
_STORAGE: dict[int, int] = {TensorProto.INT4: 4, TensorProto.INT16: 16}  # others have 8 bits
STORED = {**BITS, **{name: _STORAGE.get(row.onnx_type, 8) for name, row in DTYPES.items()}}
UNIT = {"uint8": "int8", "int4-in-int8": "int8", "int4-in-fp8": "fp8"}  # where not its own
MODELS = ("ops", "bytes", "size", "roofline:DEVICE", "PROFILE.json", "ort")
MEASURED = ("ort",)  # costs that are measured; the integer program works with "ops"
Types = tuple[list[str], str]  # of a node's inputs, and of its output


@dataclass(frozen=True)
class Costs:
    """The cost of each costed node by its choice, in shares of the whole model without Q/DQ.

    of: node -> choice -> cost. macs, weights: node -> multiply-accumulates, and how many weights.
    The choice "float" is there for every node. borders: what tensors cost between nodes. whole: the
    cost of a plan where it is more than the sum over nodes. learnt: what from, where it was not
    counted.
    """

    of: Mapping[str, Mapping[str, float]]
    macs: Mapping[str, int]
    weights: Mapping[str, int]
    borders: tuple[Border, ...] = ()
    whole: Callable[[Plan], float] | None = None
    learnt: Learnt | None = None

    def total(self, chosen: Mapping[str, str], plan: Plan | None = None) -> float:
        """The cost of a model; nodes that `chosen` does not name are float. plan: with these
        choices."""
        if self.whole is not None and plan is not None:
            return self.whole(plan)
        return sum(costs[chosen.get(node, "float")] for node, costs in self.of.items())

    def shares(self, chosen: Mapping[str, str]) -> dict[str, Share]:
        """Choice -> its share; the choices of `chosen` and "float"."""
        named = {node: chosen.get(node, "float") for node in {**self.macs, **self.weights}}
        return {
            choice: Share(_share(self.weights, named, choice), _share(self.macs, named, choice))
            for choice in dict.fromkeys([*chosen.values(), "float"])
        }


@dataclass(frozen=True)
class Border:
    """A tensor between nodes, in shares of the whole model without Q/DQ.

    convert: what a kernel costs that quantizes it, where a reader is quantized and it is stored in
    float. saved: what is spared where it is stored in few bits: every reader is quantized, and the
    writer, where `writer` names one. able: whether it can ever be.
    """

    writer: str | None
    readers: tuple[str, ...]
    convert: float
    saved: float
    able: bool


@dataclass(frozen=True)
class Share:
    """Of all weights and of all multiply-accumulates, 0 to 1."""

    weights: float
    macs: float


def _share(counts: Mapping[str, int], named: Mapping[str, str], choice: str) -> float:
    mine = sum(count for node, count in counts.items() if named[node] == choice)
    return mine / max(sum(counts.values()), 1)


def is_profile(model: str) -> bool:
    """Whether a cost model is a file with the times of a device."""
    return model.lower().endswith(".json")


def check(model: str) -> None:
    """Raises PlanError for a cost model that is not known, or a device that is not in the table."""
    name, _, where = model.partition(":")
    if is_profile(model):
        return
    if name == "engine":
        raise PlanError(
            "cost 'engine' is the profile of an engine: give the file of trtexec --exportProfile, "
            "--cost profile.json"
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
    absolute = {
        node.name: {c: cost(node, _types(node, p, high), shapes) for c, p in every.items()}
        for node in nodes
    }
    whole = sum(costs["float"] for costs in absolute.values())
    if not whole > 0:
        raise ModelError("no costs without shapes: give the model fixed or inferable shapes")
    relative = {
        n: {c: x / whole for c, x in costs.items()}
        for n, costs in absolute.items()
        if model != "size" or costs["float"]
    }
    return Costs(relative, *counts(nodes, shapes))


def counts(nodes: Iterable[Node], shapes: Shapes) -> tuple[dict[str, int], dict[str, int]]:
    """Node -> its multiply-accumulates, and node -> how many weights it has."""
    nodes = list(nodes)
    counted = {node.name: macs(node, shapes) for node in nodes}
    return counted, {node.name: _weights(node) for node in nodes}


def _function(model: str) -> Callable[[Node, Types, Shapes], float]:
    name, _, where = model.partition(":")
    if name == "roofline":
        return partial(_roofline, where)
    return {"ops": _ops, "bytes": _bytes, "size": _size, "ort": _ops}[name]


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


def _unit(types: list[str]) -> str:
    """The type of the matrix unit that runs a node with these operands."""
    if "int4" in types[:2] or _compute(types) in ("int16", "fixed88"):
        wide = [t for t in types[:2] if t not in DTYPES]
        return _widest(wide) if wide else "fp16"
    return UNIT.get(_compute(types), _compute(types))


def _ops(node: Node, types: Types, shapes: Shapes) -> float:
    inputs = types[0]
    if node.op in WEIGHTED:
        return macs(node, shapes) * BITS[_compute(inputs)]
    values = prod(shapes.get(node.outputs[0].name, (0,)))
    return values * sum(BITS[t] for t in inputs) / max(len(inputs), 1)


def _bytes(node: Node, types: Types, shapes: Shapes) -> float:
    moved: float = 0.0
    for tensor, dtype in zip(node.inputs, types[0], strict=True):
        values = constant_of(tensor)
        shape = shapes.get(tensor.name, ()) if values is None else values.shape
        moved += prod(shape) * STORED[dtype] / 8
    return moved + sum(prod(shapes.get(t.name, (0,))) for t in node.outputs) * STORED[types[1]] / 8


def _weights(node: Node) -> int:
    """How many weights a node has; the bias, which stays float, is none."""
    index = weight_input(node) if node.op in WEIGHTED else None
    return 0 if index is None else prod(node.inputs[index].shape)


def _size(node: Node, types: Types, shapes: Shapes) -> float:
    if node.op not in WEIGHTED:
        return 0.0
    index = weight_input(node)
    if index is not None:
        return _weights(node) * BITS[types[0][index]] / 8
    operands = zip(node.inputs[:2], types[0], strict=False)
    return min(prod(shapes.get(t.name, (0,))) * BITS[dtype] / 8 for t, dtype in operands)


def _roofline(name: str, node: Node, types: Types, shapes: Shapes) -> float:
    where = device(name)
    compute = _unit(types[0])
    seconds = 2 * macs(node, shapes) / where.rate(compute)
    return max(seconds, _bytes(node, types, shapes) / (where.gb_s * 1e9))
