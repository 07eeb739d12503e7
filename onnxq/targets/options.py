"""What the user may say about placement, and the nodes those words name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from onnxq.errors import PlanError
from onnxq.model.graph import WEIGHTED, Graph, Node, constant_of, is_standard, producer, within
from onnxq.model.patterns import matches, select


@dataclass(frozen=True)
class PlanOptions:
    """Placement options; the defaults are what `onnxq quantize MODEL --calib DATA` uses.

    skip, only: patterns of nodes to leave float, or to restrict the plan to.
    skip_op: op types to leave float. skip_between: "FROM:TO", every node on a path between them.
    keep_first, keep_last: how many weighted ops nearest an input or an output stay float.
    deconv: whether and how ConvTranspose is quantized. concat: what a Concat of quantized
    branches gets; "auto" is float for tensorrt, requant for onnxruntime. residual: whether the skip
    branch of a residual Add is quantized.
    weights: granularity of weight scales; "auto" is per channel, and per block for INT4 weights of
    MatMul and Gemm and wherever a block_size is given. min_channels: narrower Conv and MatMul stay
    float. target: the rule table. scheme: the types of weights and activations; scheme_for:
    "PATTERN=SCHEME", those of single nodes. block_size: values that share a scale, 64 if None.
    attribute_op: op types of nodes that carry their ranges as attributes instead of Q/DQ.
    high_precision: the type of what stays float, which some rules look at.
    """

    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip_op: tuple[str, ...] = ()
    skip_between: tuple[str, ...] = ()
    keep_first: int = 0
    keep_last: int = 0
    deconv: Literal["float", "per-tensor", "per-channel"] = "float"
    concat: Literal["auto", "share", "requant", "float"] = "auto"
    residual: Literal["skip", "float"] = "skip"
    weights: Literal["auto", "per-channel", "per-tensor", "per-block"] = "auto"
    min_channels: int = 16
    target: str = "tensorrt"
    scheme: str = "w8a8"
    scheme_for: tuple[str, ...] = ()
    block_size: int | None = None
    attribute_op: tuple[str, ...] = ()
    high_precision: Literal["fp32", "fp16", "bf16"] = "fp32"


def left_float(graph: Graph, options: PlanOptions) -> dict[str, str]:
    """Nodes that the user's words leave float, each with the reason.

    Raises PlanError for a pattern that matches nothing and for a negative count.
    """
    if min(options.keep_first, options.keep_last) < 0:
        raise PlanError(f"--keep-first {options.keep_first} --keep-last {options.keep_last}: "
                        "a count is at least 0")  # fmt: skip
    reasons: dict[str, str] = {}
    for name, pattern in select(graph, options.skip).items():
        reasons[name] = f"--skip {pattern}"
    for op in options.skip_op:
        for name in select(graph, [f"op:{op}"]):
            reasons.setdefault(name, f"--skip-op {op}")
    for pair in options.skip_between:
        for name in _between(graph, pair):
            reasons.setdefault(name, f"--skip-between {pair}")
    for name in _nearest(graph, options.keep_first, forward=True):
        reasons.setdefault(name, f"--keep-first {options.keep_first}")
    for name in _nearest(graph, options.keep_last, forward=False):
        reasons.setdefault(name, f"--keep-last {options.keep_last}")
    if options.only:
        chosen = select(graph, options.only)
        for node in within(graph.nodes):
            if node.name not in chosen:
                reasons.setdefault(node.name, "not named by --only")
    return reasons


def is_weighted(node: Node) -> bool:
    """Whether `node` is an op that a target may run in low precision."""
    return node.op in WEIGHTED and is_standard(node)


def reachable(nodes: Iterable[Node], forward: bool) -> set[str]:
    """Names of `nodes` and of every node after (forward) or before them."""
    seen: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        tensors = node.outputs if forward else node.inputs
        stack += [n for t in tensors for n in (t.outputs if forward else t.inputs)]
    return seen


def _between(graph: Graph, pair: str) -> list[str]:
    start, colon, end = pair.partition(":")
    if start in ("op", "tensor", "name"):
        kind, (start, colon, end) = start, end.partition(":")
        start = f"{kind}:{start}"
    if not (start and colon and end):
        raise PlanError(f"--skip-between '{pair}' needs two patterns as FROM:TO")
    select(graph, [start, end])  # a pattern that matches nothing is an error
    after = reachable((n for n in graph.nodes if matches(start, n)), forward=True)
    before = reachable((n for n in graph.nodes if matches(end, n)), forward=False)
    names = [n.name for n in graph.nodes if n.name in after & before]
    if not names:
        raise PlanError(f"--skip-between '{pair}': no path leads from '{start}' to '{end}'")
    return names


def _nearest(graph: Graph, count: int, forward: bool) -> list[str]:
    """Weighted ops with fewer than `count` weighted ops before (forward) or after them, on the
    longest path."""
    rank: dict[int, int] = {}  # weighted ops up to a node, itself included
    found = []
    for node in graph.nodes if forward else reversed(graph.nodes):
        tensors = node.inputs if forward else node.outputs
        nearer = (n for t in tensors for n in (t.inputs if forward else t.outputs))
        rank[id(node)] = is_weighted(node) + max((rank.get(id(n), 0) for n in nearer), default=0)
        if is_weighted(node) and rank[id(node)] <= count:
            found.append(node.name)
    return found


def stored_weight(node: Node) -> Node | None:
    """The DequantizeLinear that gives a weighted op a weight which is quantized already."""
    for tensor in node.inputs[:2]:
        before = producer(tensor)
        if before is not None and before.op == "DequantizeLinear":
            return before
    return None


def weight_input(node: Node) -> int | None:
    """Index of the constant weight among the first two inputs; None if both are computed."""
    for i in (1, 0):
        if len(node.inputs) > i and constant_of(node.inputs[i]) is not None:
            return i
    return None
