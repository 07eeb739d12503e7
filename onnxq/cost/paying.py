"""Whether few bits pay on a device: by one profile and the cost learnt from it, or by two."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from onnxq.cost.blocks import Block, Cut, Pays, paying, regions
from onnxq.cost.parts import float_type, origin
from onnxq.cost.timing import NOTHING, Timing
from onnxq.layers.against import compare
from onnxq.layers.reading import EngineReading
from onnxq.model.graph import Graph
from onnxq.plan import Plan


def predicted(
    graph: Graph, plan: Plan, timing: Timing, left: Callable[[Sequence[str]], Plan] | None = None
) -> Pays:
    """Whether a plan pays by the cost learnt from a profile. left: the plan with nodes left float,
    `plan.without` by default."""
    stored = timing.stored(plan)
    found = regions(graph, plan.nodes, (part.nodes for part in timing.found.parts))
    times = {
        part.nodes[0]: (timing.part_ms(part, NOTHING, {}), timing.part_ms(part, plan, stored))
        for part in timing.found.parts
    }
    for tensor, dtypes in timing.asked(plan).items():
        if tensor in stored:
            continue
        readers = [e.node for e in timing.readers[tensor] if e in plan.edges]
        reader = next((timing.found.of_node[n].nodes[0] for n in readers
                       if n in timing.found.of_node), None)  # fmt: skip
        if reader is not None:
            ms = sum(timing.convert_ms(tensor, dtype) for dtype in dtypes)
            times[reader] = (times[reader][0], times[reader][1] + ms)
    made = [Block(nodes, _sum(times, nodes, 0), _sum(times, nodes, 1)) for nodes, _ in found]
    marked, _ = paying(made, cuts_of(graph, plan, timing, found))
    floats = {n for block in marked if not block.pays for n in block.nodes}
    gone = [n for n in plan.nodes if n in floats]
    best = left(gone) if left is not None else plan.without(*gone)
    float_ms, quantized_ms, best_ms = map(timing.total, (NOTHING, plan, best))
    return Pays(float_ms, quantized_ms, best_ms, timing.high, _low(plan), True, tuple(marked))


def _low(plan: Plan) -> str:
    """The type that most of a plan is in, as people write it."""
    labels = Counter(spec.row.label for spec in plan.edges.values())
    return labels.most_common(1)[0][0] if labels else "INT8"


def _sum(times: Mapping[str, tuple[float, float]], nodes: Sequence[str], side: int) -> float:
    return math.fsum(times[node][side] for node in nodes if node in times)


def measured(graph: Graph, plan: Plan, a: EngineReading, b: EngineReading, timing: Timing) -> Pays:
    """Whether a plan pays by an engine in float and one quantized by it. timing: of the second,
    for what is converted where blocks of both meet.

    What belongs to no block is taken as in the engine where it is slower, unless all blocks are of
    one engine. Raises OnnxqError as `compare` does.
    """
    groups = compare(a, b).groups
    found = regions(graph, plan.nodes, (group.nodes for group in groups))
    home = {node: i for i, (nodes, _) in enumerate(found) for node in nodes}
    sides, rest = [[0.0, 0.0] for _ in found], [0.0, 0.0]
    for group in groups:
        where = next((home[n] for n in group.nodes if n in home), None)
        row = rest if where is None else sides[where]
        row[0] += group.a.ms
        row[1] += group.b.ms
    made = [Block(n, ms[0], ms[1]) for (n, _), ms in zip(found, sides, strict=True)]
    marked, ms = paying(made, cuts_of(graph, plan, timing, found))
    states = {block.pays for block in marked}
    outside = max(rest) if len(states) > 1 else rest[states == {True}]
    totals = [math.fsum(side[i] for side in sides) + rest[i] for i in (0, 1)]
    best = min(ms + outside, *totals)
    if best < ms + outside:  # what belongs to no block says otherwise
        marked = [replace(block, pays=totals[1] < totals[0]) for block in marked]
    high = float_type(a) or timing.high
    return Pays(totals[0], totals[1], best, high, _low(plan), False, tuple(marked))


def cuts_of(
    graph: Graph, plan: Plan, timing: Timing, found: Sequence[tuple[Sequence[str], str]]
) -> list[Cut]:
    """What is converted before each block where the one before is of the other state."""
    stored, asked = timing.stored(plan), timing.asked(plan)
    origins = _origins(graph)
    cuts = []
    for _, lead in found:
        tensor = origins.get(lead, lead)
        dtypes = asked.get(tensor, set())
        if tensor not in stored:  # converted in any case, and counted with its reader
            cuts.append(Cut(0.0, 0.0))
            continue
        without = {n: t for n, t in stored.items() if n != tensor}
        widen = sum(
            timing.part_ms(part, plan, without) - timing.part_ms(part, plan, stored)
            for part in timing.found.parts
            if any(port.origin == tensor for port in (*part.inputs, *part.outputs))
        )
        cuts.append(Cut(sum(timing.convert_ms(tensor, dtype) for dtype in dtypes), widen))
    return cuts


def _origins(graph: Graph) -> Mapping[str, str]:
    return {t.name: origin(t).name for node in graph.nodes for t in node.outputs}
