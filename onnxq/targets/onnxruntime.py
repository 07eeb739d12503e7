"""Placement for ONNX Runtime on a CPU: what its kernels run on 8-bit codes from input to output.

    Q -> Conv -> Relu -> Q/DQ -> Add -> Q/DQ -> Conv ...   becomes   QLinearConv, QLinearAdd, ...

ONNX Runtime runs a node on codes only where all its inputs are dequantized and its output is
quantized at once; otherwise it dequantizes and runs in float, which is slower than a float model.
So an op is worth quantizing as part of a chain. Every op of `WEIGHTED` starts one; ops of `KERNELS`
and `MOVES` are part of one where something they read comes in codes and something behind them wants
codes. The rest stays float: it reads what the chain writes through Q/DQ, which costs it a pass.

Activations are uint8 with a zero point: kernels for int8 exist, but on x86 ONNX Runtime turns its
Q/DQ into uint8 and loses fusions on the way wherever a tensor is read twice.
Evidence for each rule: docs/onnxruntime.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from onnxq.model.flow import data_input, same_source, sources
from onnxq.model.graph import (
    Graph,
    Node,
    Tensor,
    constant_of,
    is_output,
    is_standard,
    producer,
    scopes,
)
from onnxq.plan import Plan
from onnxq.schemes import Scheme
from onnxq.spec import Edge, QuantSpec
from onnxq.targets import tensorrt
from onnxq.targets.concat import shared
from onnxq.targets.float_rules import FloatRule
from onnxq.targets.options import PlanOptions, is_weighted, left_float, stored_weight, weight_input
from onnxq.targets.specs import default_scheme, inputs_of, schemes_of

KERNEL_SCHEME = "w8a8"  # the scheme that has kernels; others are run as Q/DQ around float ops
FIXED_POINT = ("w16a16", "fixed88")  # judge hardware that has no floats: every tensor is quantized
CODES = QuantSpec("uint8")

WRITES_FLOAT = ("Gemm", "MatMul")  # their kernels write float as well as codes
KERNELS = ("Add", "Mul", "Sigmoid", "LeakyRelu", "AveragePool", "GlobalAveragePool", "Concat")
MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace", "Expand",
         "Tile", "MaxPool", "Slice", "Split", "Resize", "Gather")  # fmt: skip


def _deconv(node: Node, options: PlanOptions) -> bool:
    return bool(node.op == "ConvTranspose")


def _not_float32(node: Node, options: PlanOptions) -> bool:
    return any(t.dtype is not None and t.dtype != np.float32 for t in node.inputs[:2])


def _quantized_weight(node: Node, options: PlanOptions) -> bool:
    return stored_weight(node) is not None


def _no_constant_weight(node: Node, options: PlanOptions) -> bool:
    if node.op == "MatMul":
        return all(constant_of(t) is not None for t in node.inputs)
    return weight_input(node) != 1


def _scaled_gemm(node: Node, options: PlanOptions) -> bool:
    if node.op != "Gemm":
        return False
    factors = (float(node.attrs.get(name, 1.0)) for name in ("alpha", "beta"))
    return bool(node.attrs.get("transA", 0)) or any(f != 1.0 for f in factors)


def _expectation(node: Node, options: PlanOptions) -> bool:
    before = producer(same_source(node.inputs[0]))
    return node.op == "Conv" and before is not None and before.op == "Softmax"


RULES: tuple[FloatRule, ...] = (
    FloatRule("deconv", "ONNX Runtime has no ConvTranspose on codes", _deconv),
    FloatRule("not-float32", "its inputs are not float32", _not_float32),
    FloatRule("quantized-weight", "its weight is quantized already", _quantized_weight),
    FloatRule("computed-weight", "its weight is not constant", _no_constant_weight),
    FloatRule("scaled-gemm", "ONNX Runtime has no Gemm on codes with transA or factors",
              _scaled_gemm),
    FloatRule("expectation", "a Conv over a Softmax decodes coordinates, which 8 bits ruin",
              _expectation),
)  # fmt: skip


def plan(graph: Graph, options: PlanOptions, model: str) -> Plan:
    """The ONNX Runtime plan of a prepared graph; `model` is the model file's hash.

    Raises PlanError for a pattern that matches nothing or an unknown option.
    """
    scheme = default_scheme(options)
    if scheme.name != KERNEL_SCHEME:
        plan = replace(tensorrt.plan(graph, options, model), target="onnxruntime")
        return _everything(graph, options, plan) if scheme.name in FIXED_POINT else plan
    asked, own = left_float(graph, options), schemes_of(graph, options)
    others = {name: s for name, s in own.items() if s.name != KERNEL_SCHEME}
    skipped = _left_float(graph, options, asked)
    chain = Chain.of(graph, options, {*asked, *skipped, *others})
    edges: dict[Edge, QuantSpec] = {}
    rules: dict[str, str] = {}
    for node in graph.nodes:
        if is_weighted(node) and node.name not in skipped:
            if node.name in others:
                found, rule = inputs_of(node, options, others[node.name]), f"weighted-{node.op}"
            elif node.name in chain.names:
                found, rule = _kernel_inputs(node, options, scheme), f"kernel-{node.op}"
            else:
                skipped[node.name] = "writes-output: a Conv on codes cannot write a float output"
                continue
            edges |= found
            rules[node.name] = rule
    for node in chain.emitting():
        if node.op in KERNELS:
            edges |= {Edge(node.name, i): CODES for i, _ in enumerate(node.inputs)}
            rules[node.name] = f"kernel-{node.op}"
        for reader, edge in chain.readers(node):
            if reader.name not in asked:
                edges.setdefault(edge, CODES)
                inside = reader.name in chain.names
                rules.setdefault(reader.name, f"kernel-{reader.op}" if inside else "reads-codes")
    edges = {e: edges[e] for n in graph.nodes for e in _edges_of(n) if e in edges}
    source = sources(graph, edges)
    tied = shared(graph, edges, source) if options.concat == "share" else ()
    return Plan(model, "onnxruntime", edges, rules, skipped, source, tied)


def _left_float(graph: Graph, options: PlanOptions, asked: Mapping[str, str]) -> dict[str, str]:
    """Weighted ops that stay float, by the user's words or the first rule that holds."""
    reasons = {}
    for node in filter(is_weighted, graph.nodes):
        rule = next((r for r in RULES if r.holds(node, options)), None)
        if node.name in asked:
            reasons[node.name] = asked[node.name]
        elif rule is not None:
            reasons[node.name] = f"{rule.name}: {rule.reason}"
    for body in scopes(graph)[1:]:
        for node in filter(is_weighted, body.nodes):
            reasons[node.name] = "in-branch: codes do not go into an If, Loop or Scan"
    return reasons


def _kernel_inputs(node: Node, options: PlanOptions, scheme: Scheme) -> dict[Edge, QuantSpec]:
    """Every quantized input of a weighted op: activations in codes, the weight as elsewhere."""
    weight = weight_input(node)
    found = inputs_of(node, options, scheme)
    return {e: spec if e.input == weight else CODES for e, spec in found.items()}


def _edges_of(node: Node) -> Iterable[Edge]:
    return (Edge(node.name, i) for i in range(len(node.inputs)))


@dataclass(frozen=True)
class Chain:
    """The nodes of a graph that run on codes, by name."""

    graph: Graph
    names: AbstractSet[str]
    inner: frozenset[int]  # ids of the nodes of the main graph: others belong to an If or a Loop

    @staticmethod
    def of(graph: Graph, options: PlanOptions, left_out: Iterable[str]) -> Chain:
        """The largest chain without the nodes `left_out`."""
        out = set(left_out)
        inner = frozenset(id(n) for n in graph.nodes)
        names = {n.name for n in graph.nodes if n.name not in out and _candidate(n, options)}
        chain = Chain(graph, names, inner)
        waiting = list(graph.nodes)
        while waiting:
            node = waiting.pop()
            if chain._inside(node) and not chain._stays(node):
                names.remove(node.name)
                waiting += _concerned(node)
        return chain

    def emitting(self) -> list[Node]:
        """The nodes whose outputs are written in codes."""
        return [n for n in self.graph.nodes if n.name in self.names and self._emits(n)]

    def readers(self, node: Node) -> list[tuple[Node, Edge]]:
        """Where the codes that `node` writes are read; none where a Relu behind it writes them."""
        return [
            (reader, Edge(reader.name, i))
            for tensor in node.outputs
            for reader in {id(r): r for r in tensor.outputs}.values()
            if not (_absorbed(reader) and reader.name in self.names)
            for i, t in enumerate(reader.inputs)
            if t is tensor
        ]

    def _stays(self, node: Node) -> bool:
        if not self._is_internal(node):
            return node.op in WRITES_FLOAT
        if is_weighted(node):
            return True
        if not any(self._in_codes(t) for t in _data_inputs(node)):
            return False
        return _absorbed(node) or any(self._inside(r) for t in node.outputs for r in t.outputs)

    def _is_internal(self, node: Node) -> bool:
        """Whether every output is read, and only by nodes of this graph."""
        if any(not t.outputs or is_output(self.graph, t) for t in node.outputs):
            return False
        return all(id(r) in self.inner for t in node.outputs for r in t.outputs)

    def _inside(self, reader: Node) -> bool:
        return reader.name in self.names and id(reader) in self.inner

    def _emits(self, node: Node) -> bool:
        """Whether a node of the chain writes codes: Gemm and MatMul only where all want them."""
        before = producer(node.inputs[0]) if _absorbed(node) else None
        if node.op in WRITES_FLOAT or (before is not None and before.op in WRITES_FLOAT):
            read = [r for t in node.outputs for r in t.outputs]
            return self._is_internal(node) and all(map(self._inside, read))
        return True

    def _in_codes(self, tensor: Tensor) -> bool:
        before = producer(tensor)
        return before is not None and before.name in self.names and self._emits(before)


def _concerned(node: Node) -> list[Node]:
    """The nodes whose place in a chain may hang on that of `node`."""
    before = [p for t in node.inputs for p in t.inputs]
    return [*before, *(r for n in (node, *before) for t in n.outputs for r in t.outputs)]


def _candidate(node: Node, options: PlanOptions) -> bool:
    """Whether there is a kernel for `node`, wherever it stands."""
    if not is_standard(node):
        return False
    if is_weighted(node) or _absorbed(node):
        return True
    inputs = _data_inputs(node)
    if not inputs or any(t.dtype != np.float32 for t in (*inputs, *node.outputs)):
        return False
    if node.op in MOVES:
        return data_input(node) is not None
    if node.op not in KERNELS or any(constant_of(t) is not None for t in inputs):
        return False
    if node.op == "Concat":
        return options.concat != "float"
    return node.op != "Add" or options.residual != "float"


def _data_inputs(node: Node) -> list[Tensor]:
    """The inputs that hold data, not shapes or indices."""
    return node.inputs[:1] if node.op in MOVES or _absorbed(node) else list(node.inputs)


def _absorbed(node: Node) -> bool:
    """Whether rounding to codes that start at 0 does what `node` does: Relu, and Clip from 0.

    It must be the only reader of what it clips.
    """
    if node.op not in ("Relu", "Clip") or len(node.inputs[0].outputs) != 1:
        return False
    if node.op == "Relu":
        return True
    low = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    return low is not None and float(low) == 0


def _everything(graph: Graph, options: PlanOptions, plan: Plan) -> Plan:
    """`plan` with every computed float tensor quantized where it is read."""
    asked = left_float(graph, options)
    spec = QuantSpec(str(default_scheme(options).activation))
    edges, rules = dict(plan.edges), dict(plan.rules)
    for node in graph.nodes:
        for i, tensor in enumerate(node.inputs):
            computed = not tensor.is_empty() and constant_of(tensor) is None
            if computed and tensor.dtype == np.float32 and node.name not in asked:
                edges.setdefault(Edge(node.name, i), spec)
                rules.setdefault(node.name, "fixed-point")
    return replace(plan, edges=edges, rules=rules, source=sources(graph, edges))
