"""Costs by name: counted, or learnt from the profile of a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxq.cost.counted import Border, Costs, check, costs, counts, is_profile
from onnxq.cost.fit import ratios_of
from onnxq.cost.parts import Part
from onnxq.cost.paying import predicted
from onnxq.cost.timing import NOTHING, Timing, read_profile, timing_of
from onnxq.errors import PlanError
from onnxq.model.graph import WEIGHTED, Graph
from onnxq.model.located import digest_of
from onnxq.plan import Plan
from onnxq.run.segments import Shapes


@dataclass(frozen=True)
class Price:
    """By what plans are priced. model: see `onnxq.cost.counted`, or the file of a profile; layers:
    of its engine; rates: beside FP16's, of types that it lacks.

    Raises PlanError for a model that is not known, and for layers or rates without a profile.
    """

    model: str = "ops"
    layers: Path | None = None
    rates: str | None = None

    def __post_init__(self) -> None:
        check(self.model)
        ratios_of(self.rates)
        if not is_profile(self.model) and (self.layers or self.rates):
            raise PlanError(f"--{'layers' if self.layers else 'rates'} goes with the times of a "
                            "device: --cost PROFILE.json")  # fmt: skip

    def check(self, graph: Graph) -> None:
        """Raises OnnxqError for files that do not fit a graph, before anything is run."""
        if is_profile(self.model):
            read_profile(graph, self.model, self.layers)

    def said(self) -> list[str]:
        """What prices depend on: the name, or what is in the files."""
        files = [Path(self.model)] if is_profile(self.model) else []
        files += [self.layers] if self.layers else []
        held = [digest_of(path) for path in files]
        return [*held, self.rates or ""] if held else [self.model]


def priced(
    graph: Graph,
    plans: Mapping[str, Plan],
    high: str,
    shapes: Shapes,
    model: str,
    layers: Path | None = None,
    rates: str | None = None,
) -> Costs:
    """The costs of a prepared graph under each of `plans` (choice -> plan), and float.

    model: see `onnxq.cost.counted`, or the file of a profile, with the layers of its engine and
    what rates are beside FP16's (`onnxq.cost.fit.ratios_of`). Raises as `costs` and `timing_of` do.
    """
    if not is_profile(model):
        return costs(graph, plans, high, shapes, model)
    reading = read_profile(graph, model, layers)
    timing = timing_of(graph, reading, shapes, high, ratios_of(rates))
    return timed_costs(graph, plans, timing, shapes)


def timed_costs(graph: Graph, plans: Mapping[str, Plan], timing: Timing, shapes: Shapes) -> Costs:
    """The costs by a profile. A part goes by the node that is chosen for: its product, else what
    the plans quantize in it. Nodes that no kernel names have no cost."""
    named = {node for plan in plans.values() for node in plan.nodes}
    float_ms = timing.total(NOTHING)
    keys = {part.head: _key(part, named) for part in timing.found.parts}
    of: dict[str, dict[str, float]] = {"": {"float": timing.found.kept_ms / float_ms}}
    for part in timing.found.parts:
        of[keys[part.head]] = {
            choice: _alone(timing, part, plan) / float_ms
            for choice, plan in {**plans, "float": NOTHING}.items()
        }
    nodes = [n for n in graph.nodes if n.name in named or n.op in WEIGHTED]
    return Costs(
        of,
        *counts(nodes, shapes),
        tuple(_borders(timing, next(iter(plans.values())), keys, float_ms)),
        lambda plan: timing.total(plan) / float_ms,
        timing.learnt(predicted(graph, next(iter(plans.values())), timing)),
    )


def _key(part: Part, named: set[str]) -> str:
    if part.multiplies:
        return part.head
    return next((node for node in part.nodes if node in named), part.head)


def _alone(timing: Timing, part: Part, plan: Plan) -> float:
    """Milliseconds of a part where all others are float."""
    if not (mine := [node for node in part.nodes if node in plan.by_node]):
        return timing.part_ms(part, NOTHING, {})
    return timing.part_ms(part, plan.only(*mine), {})


def _borders(timing: Timing, plan: Plan, keys: Mapping[str, str], whole: float) -> list[Border]:
    """What tensors cost between the parts, by a plan that quantizes everything."""
    stored, found = timing.stored(plan), []
    touching: dict[str, list[Part]] = {}
    for part in timing.found.parts:
        for name in {port.origin for port in (*part.inputs, *part.outputs)}:
            touching.setdefault(name, []).append(part)
    for name, dtypes in timing.asked(plan).items():
        read = [e.node for e in timing.readers[name] if e in plan.edges]
        parts = [timing.found.of_node[node] for node in read if node in timing.found.of_node]
        writer = timing.writers.get(name)
        free = writer is None or timing.is_pointwise(writer)
        saved = 0.0
        if name in stored:
            without = {n: t for n, t in stored.items() if n != name}
            saved = sum(
                timing.part_ms(part, plan, without) - timing.part_ms(part, plan, stored)
                for part in touching.get(name, ())
            )
        convert = sum(timing.convert_ms(name, dtype) for dtype in dtypes)
        readers = tuple(dict.fromkeys(keys[part.head] for part in parts))
        writes = None if free or writer is None else keys[writer.head]
        found.append(Border(writes, readers, convert / whole, saved / whole, name in stored))
    return found
