"""Which recoveries are asked for: a comma-separated list, in the order in which they run."""

from __future__ import annotations

import math

from onnxq.errors import PlanError
from onnxq.plan import Plan
from onnxq.recover.pipeline import RECOVERIES

ALGORITHMS = tuple(recovery.name for recovery in RECOVERIES)


def parse(text: str) -> tuple[str, ...] | None:
    """The algorithms that `text` names, in order: "none", "all", or some of them with commas
    between; None for "auto". Raises PlanError for an unknown one.
    """
    words = [word.strip() for word in text.split(",")]
    if words == ["auto"]:
        return None
    if words == ["none"]:
        return ()
    if words == ["all"]:
        return ALGORITHMS
    if unknown := [word for word in words if word not in ALGORITHMS]:
        raise PlanError(
            f"unknown recovery '{unknown[0]}'; choose none, auto, all, or of "
            f"{', '.join(ALGORITHMS)}, with commas between"
        )
    return tuple(name for name in ALGORITHMS if name in words)


def chosen(text: str, plan: Plan) -> tuple[str, ...]:
    """The algorithms for a plan: "auto" is channel scales and bias correction where something has 8
    bits or fewer, and rounding too where something has 4."""
    named = parse(text)
    if named is not None:
        return named
    least = min((spec.row.bits for spec in plan.edges.values()), default=math.inf)
    return tuple(recovery.name for recovery in RECOVERIES if least <= recovery.auto_bits)
