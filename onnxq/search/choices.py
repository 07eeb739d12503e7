"""What a node may become: the choices, a plan for each, and the plan of any mixture of them.

A choice is a scheme, by a short name, or float. Nodes with weights, and products of two
activations, are what is chosen for. What belongs to no single node, such as the skip branch of a
residual Add or the branches of a Concat, is planned anew for each mixture by the target's table:
it reads the type in which its neighbours quantize the tensor, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from onnxq.calib.observed import settle
from onnxq.calib.ranges import Ranges
from onnxq.errors import PlanError
from onnxq.model.graph import Graph
from onnxq.model.patterns import exactly
from onnxq.pipeline import steps
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.schemes import SCHEMES, Scheme, scheme
from onnxq.spec import DTYPES
from onnxq.targets import placement
from onnxq.targets.attention import broken_attention
from onnxq.targets.concat import joined
from onnxq.targets.options import PlanOptions, is_weighted
from onnxq.targets.specs import schemes_of

FLOAT = "float"
FLOATS = (FLOAT, "fp32", "fp16", "bf16")
SHORT = {"int8": "w8a8", "int4": "w4a8"}  # choice -> scheme; every scheme is a choice too
REASON = "left float by the search"


@dataclass(frozen=True)
class Choices:
    """What `--choices` says: choice -> scheme, whether nodes may stay float, and in which type."""

    quantized: Mapping[str, Scheme]
    leaves_float: bool
    high: str


def choices_of(text: str | None, high: str | None, options: PlanOptions) -> Choices:
    """The choices in a text such as "int4,int8,fp16"; None is the scheme of `options` and float.

    high: the type that was asked for of what stays float, if any. Wide weights come first. Raises
    PlanError for an unknown choice, one that the target cannot run, none that is quantized,
    nothing to choose, or two types of floats.
    """
    if text is None:
        text = f"{_short(options.scheme)},{FLOAT}"
    named = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    floats = [word for word in named if word in FLOATS]
    schemes: dict[str, Scheme] = {}
    for word in named:
        if word not in FLOATS:
            named_scheme = _scheme(word, options.target)
            if named_scheme not in schemes.values():
                schemes[word] = named_scheme
    types = {word for word in floats if word != FLOAT} | ({high} if high else set())
    if len(types) > 1:
        raise PlanError(f"{' and '.join(sorted(types))} contradict each other: what is not "
                        "quantized has one type")  # fmt: skip
    if not schemes:
        raise PlanError(f"--choices '{text}' quantizes nothing; add one of "
                        f"{', '.join(_names(options.target))}")  # fmt: skip
    if not floats and len(schemes) < 2:
        raise PlanError(f"--choices '{text}' leaves nothing to choose; add float")
    wide_first = dict(sorted(schemes.items(), key=lambda item: -DTYPES[item[1].weight].bits))
    return Choices(wide_first, bool(floats), types.pop() if types else Config().high_precision)


def _short(name: str) -> str:
    """The choice that a scheme goes by."""
    return next((short for short, long in SHORT.items() if long == name), name)


def _names(target: str) -> list[str]:
    """The quantized choices that a target runs, short names first."""
    runs = [name for name, s in SCHEMES.items() if target in s.targets]
    return list(dict.fromkeys([*(s for s in SHORT if SHORT[s] in runs), *runs]))


def _scheme(word: str, target: str) -> Scheme:
    name = SHORT.get(word, word)
    known = ", ".join((*_names(target), *FLOATS))
    if name not in SCHEMES:
        raise PlanError(f"unknown choice '{word}'; choose of {known}")
    if target not in SCHEMES[name].targets:
        raise PlanError(f"--target {target} cannot run choice '{word}'; choose of {known}")
    return scheme(name, target)


@dataclass(frozen=True)
class Palette:
    """The plans that nodes are chosen from.

    plans: choice -> the plan of the nodes that may get it; a node for which a choice changes
    nothing is in the plan of the one before alone. mix: node -> choice to the plan of that; nodes
    that are not named are float. leaves_float: whether a node may be left float.
    """

    plans: Mapping[str, Plan]
    mix: Callable[[Mapping[str, str]], Plan]
    leaves_float: bool = True
    nodes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = dict.fromkeys(n for plan in self.plans.values() for n in plan.nodes)
        object.__setattr__(self, "nodes", tuple(names))

    @property
    def everything(self) -> Plan:
        """A plan that observes every tensor that the plan of some mixture quantizes."""
        return _union(self.plans)

    def settled(self, graph: Graph, read: Callable[[Plan], Ranges]) -> Palette:
        """Without the nodes that read a tensor whose range is zero."""
        plans = {c: settle(graph, plan, read(plan))[0] for c, plan in self.plans.items()}
        gone = {*self.nodes} - {n for plan in plans.values() for n in plan.nodes}
        dead = {n: why for p in plans.values() for n, why in p.skipped.items() if n in gone}

        def mix(chosen: Mapping[str, str]) -> Plan:
            plan = self.mix(chosen)
            return replace(plan, skipped={**plan.skipped, **dead})

        return replace(self, plans=plans, mix=mix)

    def named(self, plan: Plan, chosen: Mapping[str, str]) -> dict[str, str]:
        """Node -> the choice that `plan` makes; of two that are the same the one in `chosen`."""
        choices = {}
        for node, specs in plan.by_node.items():
            offered = {c: p.by_node[node] for c, p in self.plans.items() if node in p.by_node}
            same = [c for c, its in offered.items() if its == specs] or list(offered)
            if same:
                choices[node] = chosen[node] if chosen.get(node) in same else same[0]
        return choices


def given(graph: Graph, plan: Plan, name: str | None = None, reason: str = REASON) -> Palette:
    """The nodes of one plan as they are, or left float for a reason; attention whole or not at
    all."""
    dtypes = {spec.dtype for spec in plan.edges.values()}
    name = name or (dtypes.pop() if len(dtypes) == 1 else "quantized")

    def mix(chosen: Mapping[str, str]) -> Plan:
        quantized = {n for n in plan.nodes if chosen.get(n, FLOAT) != FLOAT}
        # what the plan never quantizes breaks no more than it did
        while broken := {
            n for n, why in broken_attention(graph, quantized).items() if why in plan.by_node
        }:
            quantized -= broken
        return plan.without(*(n for n in plan.nodes if n not in quantized), reason=reason)

    return Palette({name: plan}, mix)


def palette_of(source: steps.Source, config: Config, choices: Choices) -> Palette:
    """The plans of each choice by the target's table; nodes that `--scheme-for` names have the
    scheme that it gives them, or are float.

    Raises PlanError as `placement.plan` does, and where no choice quantizes anything.
    """
    options, graph = config.placement, source.graph
    own = {node: s.name for node, s in schemes_of(graph, options).items()}
    schemes = {choice: s.name for choice, s in choices.quantized.items()}
    schemes |= {_short(s): s for s in own.values() if s not in schemes.values()}
    choice_of = {name: choice for choice, name in schemes.items()}
    blocks = {name for name in choice_of if scheme(name, options.target).blocks}
    plans: dict[str, Plan] = {}
    for choice, name in schemes.items():
        asked = replace(options, scheme=name)
        if blocks and name not in blocks:
            asked = _without_blocks(asked)
        whole = placement.plan(graph, asked, source.sha256)
        mine = [
            node
            for node, specs in whole.by_node.items()
            if (choice_of[own[node]] == choice if node in own else choice in choices.quantized)
            and not any(other.by_node.get(node) == specs for other in plans.values())
        ]
        plans[choice] = whole.only(*mine)
    steps.refuse_empty(_union(plans), source)
    mix = _table(source, options, schemes, plans)
    return Palette(plans, mix, choices.leaves_float)


def _table(
    source: steps.Source,
    options: PlanOptions,
    schemes: Mapping[str, str],
    plans: Mapping[str, Plan],
) -> Callable[[Mapping[str, str]], Plan]:
    """How the target's table plans a mixture: the scheme of each node, and which to skip."""
    nodes = dict.fromkeys(n for plan in plans.values() for n in plan.nodes)
    blocked = {(e.node, c) for c, p in plans.items() for e, s in p.edges.items() if s.block_size}
    weighted = {node.name for node in source.graph.nodes if is_weighted(node)}
    # nodes that no choice quantizes must not get a scheme that is no choice
    scheme = options.scheme if options.scheme in schemes.values() else next(iter(schemes.values()))

    def mix(chosen: Mapping[str, str]) -> Plan:
        floats = [n for n in nodes if chosen.get(n, FLOAT) == FLOAT]
        assigned = [
            f"{exactly(n)}={schemes[c]}" for n, c in chosen.items() if c != FLOAT and n in weighted
        ]
        asked = replace(
            options,
            scheme=scheme,
            skip=(*options.skip, *map(exactly, floats)),
            scheme_for=(*options.scheme_for, *assigned),
        )
        if not blocked & set(chosen.items()):
            asked = _without_blocks(asked)
        planned = placement.plan(source.graph, asked, source.sha256)
        return replace(planned, skipped={**planned.skipped, **dict.fromkeys(floats, REASON)})

    return mix


def _without_blocks(options: PlanOptions) -> PlanOptions:
    """The options without a wish for blocks, which is refused where nothing can have them."""
    weights = "auto" if options.weights == "per-block" else options.weights
    return replace(options, block_size=None, weights=weights)


def _union(plans: Mapping[str, Plan]) -> Plan:
    """The first plan with the edges of the others besides, each as the first has it."""
    first, *others = plans.values()
    edges, source, skipped = dict(first.edges), dict(first.source), dict(first.skipped)
    for plan in others:
        edges = {**plan.edges, **edges}
        source = {**plan.source, **source}
        skipped = {**plan.skipped, **skipped}
    tied = joined(group for plan in plans.values() for group in plan.tied)
    return replace(first, edges=edges, source=source, skipped=skipped, tied=tied)
