"""What is toggled: units of nodes, and the plan that each toggle stands for.

one-on    plan.only(*unit)       everything else float
one-off   plan.without(*unit)    everything else quantized
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onnxq.errors import PlanError
from onnxq.model.graph import Graph, within
from onnxq.model.patterns import select
from onnxq.plan import Plan
from onnxq.sensitivity.options import Options
from onnxq.spec import Edge

Part = Literal["both", "activation", "weight"]
FLOAT, ALL = "(float)", "(quantized)"  # toggles of no unit: nothing quantized, everything
PARTS: tuple[Part, ...] = ("activation", "weight")
LEAST_GROUPS = 4  # blocks are the shortest name scopes that make at least so many


@dataclass(frozen=True)
class Unit:
    """Nodes of the plan that are toggled together."""

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Toggle:
    """One thing to measure: the model under `plan`, scored at `tensors`; of a unit, if it has a
    name."""

    name: str
    plan: Plan
    tensors: tuple[str, ...]
    unit: str = ""


def toggle_name(unit: Unit, part: Part) -> str:
    """The name under which a toggle's sums are kept."""
    return unit.name if part == "both" else f"{unit.name} ({part})"


def units_of(graph: Graph, plan: Plan, options: Options) -> list[Unit]:
    """The units that `options` ask for, in graph order; raises PlanError where there are none."""
    place = {node.name: i for i, node in enumerate(within(graph.nodes))}
    names = sorted(plan.nodes, key=place.__getitem__)
    if options.granularity == "node":
        if options.groups:
            raise PlanError("groups are given, but the granularity is 'node'; choose 'group'")
        return [Unit(name, (name,)) for name in names]
    if not options.groups:
        return _blocks(names)
    units = []
    for pattern in options.groups:
        matching = select(graph, [pattern])
        nodes = tuple(name for name in names if name in matching)
        if not nodes:
            raise PlanError(f"group '{pattern}' names no node that the plan quantizes")
        units.append(Unit(pattern, nodes))
    return units


def _blocks(names: Sequence[str]) -> list[Unit]:
    """Nodes by the first scopes of their names: as many scopes as make LEAST_GROUPS groups."""
    scopes = {name: name.strip("/").split("/")[:-1] for name in names}
    deepest = max(map(len, scopes.values()), default=0)
    groups: dict[str, list[str]] = {}
    for depth in range(1, deepest + 1):
        groups = {}
        for name in names:
            groups.setdefault("/".join(scopes[name][:depth]) or name, []).append(name)
        if len(groups) >= LEAST_GROUPS:
            break
    if len(groups) < 2:
        raise PlanError(
            "the nodes' names have no scopes to group by; name the groups with --group PATTERN"
        )
    return [Unit(name, tuple(nodes)) for name, nodes in groups.items()]


def toggled(
    plan: Plan, unit: Unit, part: Part, mode: str, weights: Collection[Edge]
) -> Plan | None:
    """The plan with `part` of a unit toggled; None where it has no such part. `weights` are the
    edges at constants."""
    own = set(unit.nodes)
    edges = {
        edge
        for edge in plan.edges
        if edge.node in own and (part == "both" or (edge in weights) == (part == "weight"))
    }
    if not edges:
        return None
    if mode == "one-on":
        alone = plan.only(*unit.nodes)
        return replace(alone, edges={e: s for e, s in alone.edges.items() if e in edges})
    if part == "both":
        return plan.without(*unit.nodes)
    return replace(plan, edges={e: s for e, s in plan.edges.items() if e not in edges})
