"""What the user may say about placement, and the nodes those words name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from onnxq.errors import PlanError
from onnxq.model.graph import WEIGHTED, Graph, Node, constant_of, is_standard, within
from onnxq.model.patterns import matches, select
from onnxq.model.qdq import dequantizer
from onnxq.option import option, settle
from onnxq.schemes import BLOCK_SIZES, BOTH, SCHEMES


@dataclass(frozen=True)
class PlanOptions:
    """Placement options; the defaults are what `onnxq quantize MODEL --calib DATA` uses.

    concat: "auto" is float for tensorrt, requant for onnxruntime. weights: "auto" is per channel,
    and per block for INT4 weights of MatMul and Gemm and wherever a block_size is given. Patterns
    in skip and only name nodes; those of skip_between are "FROM:TO". high_precision: the type of
    what stays float, which some rules look at.
    """

    skip: tuple[str, ...] = option(
        (), "Leave these nodes float: a substring or glob of the name, op:TYPE, tensor:NAME or "
        "@FILE. Repeatable.", "Placement", "PATTERN",
    )  # fmt: skip
    only: tuple[str, ...] = option((), "Quantize only these nodes.", "Placement", "PATTERN")
    skip_op: tuple[str, ...] = option((), "Leave an op type float.", "Placement", "TYPE")
    skip_between: tuple[str, ...] = option(
        (), "Leave every node on a path between two patterns float.", "Placement", "FROM:TO"
    )
    keep_first: int = option(
        0, "Leave the first N weighted ops after the inputs float.", "Placement", "N", least=0
    )
    keep_last: int = option(
        0, "Leave the last N weighted ops before the outputs float.", "Placement", "N", least=0
    )
    deconv: Literal["float", "per-tensor", "per-channel"] = option(
        "float", "Q/DQ for ConvTranspose. TensorRT runs it in float anyway; build and compare if "
        "you change this.", "Placement",
    )  # fmt: skip
    concat: Literal["auto", "share", "requant", "float"] = option(
        "auto", "Q/DQ on the inputs of a Concat: one shared scale, a scale each, or none. auto: a "
        "scale each for onnxruntime.", "Placement",
    )  # fmt: skip
    residual: Literal["skip", "float"] = option(
        "skip", "Q/DQ on the skip branch of a residual Add, or none.", "Placement"
    )
    target: str = option(
        "tensorrt",
        "What will run the model; it decides where Q/DQ goes.",
        "Placement",
        choices=BOTH,
    )
    scheme: str = option(
        "w8a8", "Types of weights and activations.", "Precision", choices=tuple(SCHEMES)
    )
    scheme_for: tuple[str, ...] = option(
        (), "Another scheme for these nodes. Repeatable; the last match wins.", "Precision",
        "PATTERN=SCHEME",
    )  # fmt: skip
    weights: Literal["auto", "per-channel", "per-tensor", "per-block"] = option(
        "auto", "Granularity of weight scales. auto: per channel; INT4 in MatMul and Gemm per "
        "block.", "Precision",
    )  # fmt: skip
    block_size: int | None = option(
        None, "How many weights of a MatMul or Gemm share a scale. Default for INT4: 64.",
        "Precision",
        choices=BLOCK_SIZES,
    )  # fmt: skip
    min_channels: int | None = option(
        None, "Conv, Gemm and MatMul with fewer channels stay float. Default: 8 for Conv, 16 for "
        "the others.",
        "Placement", "N", least=1,
    )  # fmt: skip
    attribute_op: tuple[str, ...] = option(
        (), "Write the ranges of this op type, such as SparseConvolution, into its attributes "
        "instead of Q/DQ. Repeatable.", "Placement", "TYPE",
    )  # fmt: skip
    high_precision: Literal["fp32", "fp16", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        settle(self)

    def narrowest(self, op: str) -> int:
        """The fewest channels in and out with which an op of this type is quantized."""
        if self.min_channels is not None:
            return self.min_channels
        return 16 if op in ("Gemm", "MatMul") else 8


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
    return next(filter(None, map(dequantizer, node.inputs[:2])), None)


def weight_input(node: Node) -> int | None:
    """Index of the constant weight among the first two inputs; None if both are computed."""
    for i in (1, 0):
        if len(node.inputs) > i and constant_of(node.inputs[i]) is not None:
            return i
    return None
