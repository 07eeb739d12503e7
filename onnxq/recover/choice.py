"""Which recoveries are asked for: a comma-separated list, in the order in which they run."""

from __future__ import annotations

from onnxq.errors import PlanError
from onnxq.plan import Plan

ALGORITHMS = ("equalize", "smooth", "scales", "round", "bias")
AUTO_BITS = 8  # weights of so many bits or fewer get their biases corrected unasked


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
    """The algorithms for a plan: "auto" is bias correction where weights have 8 bits or fewer."""
    named = parse(text)
    if named is not None:
        return named
    narrow = any(spec.row.bits <= AUTO_BITS for spec in plan.edges.values())
    return ("bias",) if narrow else ()
