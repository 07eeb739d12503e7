"""A device that does not exist, whose true times are known: what costs are learnt from and held
against.

It is made to be another thing than the formula that is fitted to it (`onnxq/cost/fit.py`):

    ms = (t_move^p + t_compute^p)^(1/p) + launch + per_port * tensors          p = SHARP
    t_compute = multiply-accumulates / (rate * channels / (channels + narrow))   narrow: by type
    t_move = bytes / (bandwidth * bytes / (bytes + small))

so computing and moving overlap in part, few channels use the matrix units badly (INT8's more so),
depthwise Convs do not use them at all, and small tensors do not reach the bandwidth. Every kernel
has a factor of its own, log-normal, by its name and type: a kernel that was chosen well or badly.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxq.model.graph import Graph, Node, constant_of, is_output, producer
from onnxq.plan import Plan
from onnxq.spec import Edge

SHARP = 3.0
MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Slice", "Split")
POINT = ("Relu", "Clip", "Add", "Sigmoid", "Mul", "HardSwish", "LeakyRelu", "Sub", "Div", "Tanh",
         "Erf", "Pow", "Sqrt", "HardSigmoid")  # fmt: skip
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
WIDE = {"fp32": 4, "fp16": 2, "int8": 1}
TOLD = {"fp32": "Row major linear FP32", "int8": "Thirty-two wide channel vectorized row major "
        "Int8 format", "fp16": "Channel major FP16 format where channel % 8 == 0"}  # fmt: skip


@dataclass(frozen=True)
class MadeDevice:
    """bandwidth: bytes a millisecond. rates: multiply-accumulates a millisecond by type. launch,
    per_port: milliseconds. noise: of the logarithm."""

    bandwidth: float = 2e8
    rates: Mapping[str, float] = field(
        default_factory=lambda: {"fp16": 8e9, "int8": 17e9, "fp32": 3.5e9}
    )
    launch: float = 0.004
    per_port: float = 0.0005
    small: float = 6e4
    narrow: Mapping[str, float] = field(
        default_factory=lambda: {"fp32": 8.0, "fp16": 24.0, "int8": 40.0}
    )
    noise: float = 0.15

    def engine(
        self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], plan: Plan, high: str = "fp16"
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Layer info and profile, as trtexec writes them, of the graph under a plan."""
        kernels, layers, times = fused(graph), [], []
        home = {node.name: kernel[0].name for kernel in kernels for node in kernel}
        stored, conversions = _types(graph, plan, kernels, home, high)
        for tensor, name in conversions.items():
            size = math.prod(shapes.get(tensor, (1,)))
            ports = [_port(tensor, shapes, high), _port(f"{tensor}_q", {f"{tensor}_q": shapes.get(
                tensor, (1,))}, "int8")]  # fmt: skip
            ms = self._ms(name, size * (WIDE[high] + 1), 0.0, 1.0, high, 2)
            layers.append(_layer(name, "Reformat", ports[:1], ports[1:], Origin="QDQ"))
            times.append((name, ms))
        for kernel in kernels:
            layer, ms = self._kernel(kernel, graph, shapes, plan, stored, high)
            layers.append(layer)
            times.append((layer["Name"], ms))
        profile = [{"count": 100}, *({"name": name, "averageMs": ms} for name, ms in times)]
        return {"Layers": layers, "Bindings": []}, profile

    def total(
        self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], plan: Plan, high: str = "fp16"
    ) -> float:
        """Milliseconds of the graph under a plan."""
        _, profile = self.engine(graph, shapes, plan, high)
        return math.fsum(x["averageMs"] for x in profile if "name" in x)

    def _kernel(
        self, kernel: list[Node], graph: Graph, shapes: Mapping[str, tuple[int, ...]],
        plan: Plan, stored: Mapping[str, str], high: str,
    ) -> tuple[dict[str, Any], float]:  # fmt: skip
        inside = {node.name for node in kernel}
        head, reads, moved, converted = kernel[0], {}, 0.0, set()
        few = head.op in PRODUCTS and _is_few(head, plan)
        for node in kernel:
            for i, t in enumerate(node.inputs):
                values = constant_of(t)
                if values is not None:
                    moved += values.size * (1 if few else WIDE[high])
                elif not any(n.name in inside for n in t.inputs):
                    asked = Edge(node.name, i) in plan.edges
                    reads[t.name] = "int8" if asked else stored.get(_root(t), high)
                    converted |= {t.name} if asked and _root(t) not in stored else set()
        written = [
            t
            for node in kernel
            for t in node.outputs
            if is_output(graph, t) or any(n.name not in inside for n in t.outputs)
        ]
        writes = {t.name: stored.get(_root(t), high) for t in written}
        for name, kind in (*reads.items(), *writes.items()):
            moved += math.prod(shapes.get(name, (1,))) * WIDE[kind]
        name, macs, channels = " + ".join(n.name for n in kernel), 0.0, 1.0
        if head.op in PRODUCTS:
            macs, channels = _work(head, shapes)
        kind = "int8" if few else high
        ms = self._ms(name, moved, macs, channels, kind, len(reads) + len(writes))
        more = {"Weights": {"Type": kind, "Count": 1}} if head.op in PRODUCTS else {}
        sort = "CaskConvolution" if head.op in PRODUCTS else "PointWiseV2"
        ports = [[_port(n, shapes, k) for n, k in side.items()] for side in (reads, writes)]
        for port in ports[0]:
            port["Name"] += "_q" if port["Name"] in converted else ""
        return _layer(name, sort, ports[0], ports[1], **more), ms

    def _ms(
        self, name: str, moved: float, macs: float, channels: float, kind: str, ports: int
    ) -> float:
        moving = (moved + self.small) / self.bandwidth
        rate = self.rates[kind] * channels / (channels + self.narrow[kind])
        computing = macs / rate
        own = (moving**SHARP + computing**SHARP) ** (1 / SHARP)
        seed = hashlib.sha256(f"{name} {kind}".encode()).digest()[:8]
        factor = math.exp(self.noise * np.random.default_rng(list(seed)).standard_normal())
        return factor * (own + self.launch + self.per_port * ports)


def fused(graph: Graph) -> list[list[Node]]:
    """The kernels: a product with the pointwise ops behind it, pointwise ops in a row, any other op
    alone; ops that only move data are none."""
    kernels: dict[str, list[Node]] = {}
    home: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in (*MOVES, "Constant", "Shape"):
            continue
        before = [producer(t) for t in node.inputs if constant_of(t) is None]
        own = [home[n.name] for n in before if n is not None and n.name in home]
        last = own[-1] if own else ""
        alone = last and all(
            all(home.get(r.name, node.name) in (last, node.name) or r is node for r in t.outputs)
            for n in kernels[last] for t in n.outputs
        )  # fmt: skip
        if node.op in POINT and alone and kernels[last][0].op in (*PRODUCTS, *POINT):
            kernels[last].append(node)
            home[node.name] = last
        else:
            kernels[node.name] = [node]
            home[node.name] = node.name
    return list(kernels.values())


def _types(
    graph: Graph, plan: Plan, kernels: list[list[Node]], home: Mapping[str, str], high: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Tensors that are stored as INT8, and tensor -> the kernel that converts it."""
    heads = {kernel[0].name: kernel[0] for kernel in kernels}
    readers: dict[str, list[bool]] = {}
    for node in graph.nodes:
        for i, t in enumerate(node.inputs):
            if constant_of(t) is None and node.op not in (*MOVES, "MaxPool"):
                writer = producer(t)
                if writer is None or home.get(writer.name) != home.get(node.name):
                    readers.setdefault(_root(t), []).append(Edge(node.name, i) in plan.edges)
    for t in graph.outputs:
        readers.setdefault(_root(t), []).append(False)
    written = {t.name: node for node in graph.nodes for t in node.outputs}
    stored, conversions = {}, {}
    for name, asked in readers.items():
        writer = written.get(name)
        head = heads[home[writer.name]] if writer is not None and writer.name in home else None
        able = head is not None and (
            head.op in POINT or (head.op in PRODUCTS and _is_few(head, plan))
            or (head.op not in PRODUCTS and any(Edge(head.name, i) in plan.edges
                                                for i in range(len(head.inputs))))
        )  # fmt: skip
        if all(asked) and able:
            stored[name] = "int8"
        elif any(asked):
            conversions[name] = f"QuantizeLinear of {name}"
    return stored, conversions


def _root(tensor: Any) -> str:
    while (before := producer(tensor)) is not None and before.op in (*MOVES, "MaxPool"):
        tensor = before.inputs[0]
    return str(tensor.name)


def _is_few(node: Node, plan: Plan) -> bool:
    return all(Edge(node.name, i) in plan.edges for i in (0, 1))


def _work(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> tuple[float, float]:
    """Multiply-accumulates, and how many channels a matrix unit has to work on."""
    weight = constant_of(node.inputs[1])
    b = shapes.get(node.inputs[1].name, (1, 1)) if weight is None else weight.shape
    out = math.prod(shapes.get(node.outputs[0].name, (1,)))
    if node.op == "Conv":
        return float(out * math.prod(b[1:])), float(min(b[0], 9 * b[1]))
    if node.op == "ConvTranspose":
        inner = math.prod(shapes.get(node.inputs[0].name, (1,)))
        return float(inner * math.prod(b[1:])), float(b[0])
    inner = shapes.get(node.inputs[0].name, (1, 1))[-1]
    return float(out * inner), float(min(inner, b[-1]))


def _port(name: str, shapes: Mapping[str, tuple[int, ...]], kind: str) -> dict[str, Any]:
    return {"Name": name, "Dimensions": list(shapes.get(name, ())), "Format/Datatype": TOLD[kind]}


def _layer(name: str, sort: str, reads: list[Any], writes: list[Any], **more: Any) -> Any:
    return {"Name": name, "LayerType": sort, "Inputs": reads, "Outputs": writes, **more}
