"""Why a weighted op has no FP4 kernel: a table of rules, read from the top.

TensorRT multiplies FP4 by FP4 in MatMul and Gemm alone, both in blocks of 16 along what is summed.
Such a node gets the scheme `instead`. Evidence for each: docs/schemes.md.
"""

from __future__ import annotations

from collections.abc import Callable

from onnxq import fp4
from onnxq.errors import PlanError
from onnxq.model.geometry import CONVOLUTIONS
from onnxq.model.graph import Graph, Node
from onnxq.plan import Plan
from onnxq.schemes import SCHEMES, Scheme
from onnxq.spec import QuantSpec
from onnxq.targets.options import PlanOptions, weight_input

RULE = "not-fp4"


def _two_activations(node: Node) -> bool:
    return weight_input(node) is None


def _weight_on_the_left(node: Node) -> bool:
    return weight_input(node) == 0 or bool(node.attrs.get("transA", 0))


def _not_a_matrix(node: Node) -> bool:
    return len(node.inputs[1].shape) != 2


def _rank(node: Node) -> bool:
    return node.inputs[0].shape is None or len(node.inputs[0].shape) not in (2, 3)


def _ragged(node: Node) -> bool:
    return bool(inputs_of_sum(node) % fp4.BLOCK) or node.inputs[0].shape[-1] != inputs_of_sum(node)


RULES: tuple[tuple[str, Callable[[Node], bool]], ...] = (
    ("TensorRT has no FP4 Conv", lambda node: node.op in CONVOLUTIONS),
    ("it multiplies two activations, or a weight that is quantized already", _two_activations),
    ("its weight is not the right operand, or its input is transposed", _weight_on_the_left),
    ("its weight is not a matrix", _not_a_matrix),
    ("FP4 takes activations of two or three dimensions", _rank),
    (f"what it sums over is no multiple of {fp4.BLOCK} that is known beforehand", _ragged),
)


def inputs_of_sum(node: Node) -> int:
    """How many products a value of a MatMul or Gemm with a weight on the right adds up."""
    return int(node.inputs[1].shape[weight_axis(node)])


def weight_axis(node: Node) -> int:
    """The axis of the weight of a MatMul or Gemm that is summed over."""
    return 1 if node.attrs.get("transB", 0) else 0


def settled(node: Node, chosen: Scheme) -> tuple[Scheme, str]:
    """The scheme of a node, and the rule by which it has another than the one chosen; else ""."""
    if chosen.instead is None:
        return chosen, ""
    reason = next((why for why, holds in RULES if holds(node)), None)
    return (chosen, "") if reason is None else (SCHEMES[chosen.instead], f"{RULE}: {reason}")


def outside_fp4(chosen: Scheme) -> Scheme:
    """The scheme of a node in a body of an If, Loop or Scan, where nothing becomes FP4."""
    return chosen if chosen.instead is None else SCHEMES[chosen.instead]


def specs_of(node: Node) -> tuple[QuantSpec, QuantSpec]:
    """How the activation and the weight of a node that has an FP4 kernel are quantized."""
    last = len(node.inputs[0].shape) - 1
    axes = (last, weight_axis(node))
    return tuple(QuantSpec("fp4", "block", axis, fp4.BLOCK) for axis in axes)  # type: ignore[return-value]


def refuse_without_fp4(graph: Graph, options: PlanOptions, plan: Plan) -> None:
    """Raises PlanError where FP4 was asked for of the whole model and no node has it."""
    chosen = SCHEMES[options.scheme]
    if chosen.instead is None or any(s.dtype == chosen.weight for s in plan.edges.values()):
        return
    nodes = {node.name: node for node in graph.nodes}
    reasons = dict.fromkeys(rule for rule in plan.rules.values() if rule.startswith(RULE))
    reasons = reasons or dict.fromkeys(why for n, why in plan.skipped.items() if n in nodes)
    said = "; ".join(reason.removeprefix(f"{RULE}: ") for reason in list(reasons)[:3])
    raise PlanError(
        f"scheme '{chosen.name}' finds nothing to quantize to FP4: {said or 'no MatMul, no Gemm'}; "
        f"choose {chosen.instead}"
    )
