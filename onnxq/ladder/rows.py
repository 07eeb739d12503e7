"""The rows of the ladder, the cheapest engine first: what each tries on a climb.

    default       as `quantize` does it
    method        the best way to read ranges, by a few samples that calibrate
    recoveries    one more of them after the other, each kept where the figure rises
    float         the worst nodes float, as few as are needed: 1, 2, 4, ... and back by halves
    16 bits       activations of 16 bits, where the target has them
    finetune      roundings, ranges and biases learned, where torch is installed

A row is a function and a line here. What an engine costs is the same for the first three; what they
differ in is the time that they take.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from onnxq.calib.holdout import content_order
from onnxq.errors import ModelError, PlanError
from onnxq.ladder.climbing import FINETUNE, Climb, Row
from onnxq.ladder.result import Rung
from onnxq.pipeline.comparing import FloatSide
from onnxq.pipeline.config import Config
from onnxq.pipeline.method_choice import AUTO, NO_CHOICE, choose
from onnxq.pipeline.steps import read
from onnxq.plan import Plan
from onnxq.progress import stage
from onnxq.recover.choice import ALGORITHMS, chosen
from onnxq.schemes import SCHEMES
from onnxq.search.choices import given

if TYPE_CHECKING:
    from onnxq.sensitivity import Ranking

ASIDE = 8  # samples that calibrate and choose the method
RANKING = 32  # samples that rank nodes
LEAST_MACS = 0.5  # of the multiply-accumulates that stay in 8 bits: FP16 alone serves about as well
TOO_MUCH = "less than half of the multiply-accumulates would be left in 8 bits: FP16 may serve"
FIRST = ("smooth", "equalize", "round", "scales")  # recoveries, by the time that they take
WIDE = "w8aint16"


def default(on: Climb) -> None:
    """As `quantize` does it."""
    on.measure("default", "default", {})


def method(on: Climb) -> None:
    """The method that does best on a few of the samples that calibrate."""
    asked = on.config.method
    for known in on.seen("method"):
        on.again(known)
        return
    if asked != Config().method:
        on.leave_out("method", "method", f"--method {asked} was asked for")
        return
    begun = time.perf_counter()
    with stage("method"):
        scores = _scores(on)
    took = time.perf_counter() - begun
    if not scores:
        on.leave_out("method", "method", NO_CHOICE, took)
        return
    best = max(scores, key=lambda name: (scores[name], name == asked))
    if best == asked:
        others = ", ".join(name for name in AUTO if name != asked)
        why = f"{asked} does better than {others} on {ASIDE} samples"
        on.leave_out("method", "method", why, took)
        return
    on.measure("method", f"method {best}", {"method": best})


def _scores(on: Climb) -> dict[str, float]:
    """Method -> mean SQNR in dB on a few of the samples that calibrate."""
    opened, config = on.opened, on.config
    few = opened.rest.select(content_order(opened.rest)[:ASIDE])
    plan = on.plan_of(on.base)
    source, _ = opened.reshape(plan, config)
    stats = opened.count(source, plan, config)
    side = FloatSide(opened.source, few)
    return choose(source, plan, stats, side, replace(config, method="auto"))[1]


def recoveries(on: Climb) -> None:
    """One more recovery after the other, in the order of the time that they take."""
    asked = on.config.recover
    if asked != Config().recover:
        on.leave_out("recoveries", "recoveries", f"--recover {asked} was asked for")
        return
    every = dict.fromkeys([*(n for n in FIRST if n in ALGORITHMS), *ALGORITHMS])
    begun = chosen(asked, on.plan_of(on.base))
    for name in every:
        if name in begun:
            continue
        base = on.base
        having = (*begun, *base.changes.get("recover", "").split(","))
        names = [n for n in ALGORITHMS if n in (*having, name)]
        changes = {**base.changes, "recover": ",".join(names)}
        if on.measure("recoveries", f"recover +{name}", changes, (), base).holds:
            return


def floats(on: Climb) -> None:
    """The worst nodes float: twice as many until the goal is met, then halves between."""
    base, begun = on.base, time.perf_counter()
    try:
        ranked, plan = _ranked(on, base)
    except (PlanError, ModelError) as e:
        on.leave_out("float", "the worst nodes float", str(e), time.perf_counter() - begun)
        return

    lefts = _lefts(on, base, ranked, plan)

    def without(count: int) -> Rung:
        name = f"{count} worst node{'s' if count > 1 else ''} float"
        return on.measure("float", name, base.changes, lefts[count])

    most, low, high = len(lefts) - 1, 0, 1
    while low < most and not without(min(high, most)).holds:
        low, high = min(high, most), 2 * high
    if not on.is_over:
        on.leave_out("float", f"more than the {most} worst float", TOO_MUCH)
    while on.is_over and min(high, most) - low > 1:
        middle = (low + min(high, most)) // 2
        low, high = (low, middle) if without(middle).holds else (middle, high)


def _ranked(on: Climb, base: Rung) -> tuple[Ranking, Plan]:
    """The nodes of a rung by the damage that each does, screened, on samples that calibrate."""
    from onnxq.sensitivity import Options, sensitivity

    config, plan = on.config_of(base), on.plan_of(base)
    source, _ = on.opened.reshape(plan, config)
    stats = on.opened.count(source, plan, config)
    ranges = read(source, plan, stats, config.method)
    rest = on.opened.rest
    few = rest.subset(min(RANKING, len(rest)))
    resume = None if on.folder is None else on.folder / "sensitivity.json"
    asked = Options(resume=resume)
    there = replace(
        plan, model=source.sha256
    )  # a graph that recoveries reshaped has the same nodes
    return sensitivity(source, there, ranges, few, asked, config), plan


def _lefts(on: Climb, base: Rung, ranked: Ranking, plan: Plan) -> list[tuple[str, ...]]:
    """The nodes that are float if the 0, 1, 2, ... worst are, as long as enough are left;
    attention is float whole or not at all."""
    palette = given(on.opened.source.graph, plan)
    (choice,) = palette.plans
    config, found = on.config_of(base), list[tuple[str, ...]]()
    for count in range(len(ranked.rows)):
        worst = {*ranked.worst(count)}
        mixed = palette.mix({n: choice for n in plan.nodes if n not in worst})
        if not mixed.edges or on.priced(mixed, config)[1] < LEAST_MACS:
            break
        found.append(tuple(n for n in plan.nodes if n not in mixed.by_node))
    return found


def wide(on: Climb) -> None:
    """Activations of 16 bits beside weights of 8, with the method and recoveries of the best."""
    placement = on.config.placement
    runs = SCHEMES[WIDE].targets
    if placement.scheme != Config().placement.scheme or on.plan_from is not None:
        asked = "a plan" if on.plan_from is not None else f"--scheme {placement.scheme}"
        on.leave_out("16 bits", "16-bit activations", f"{asked} was asked for")
    elif placement.target not in runs:
        why = f"target {placement.target} has no activations of 16-bit integers"
        on.leave_out("16 bits", "16-bit activations", why)
    else:
        changes = {**on.base.changes, "scheme": WIDE}
        on.measure("16 bits", "16-bit activations", changes)


def finetune(on: Climb) -> None:
    """What the best has, and roundings, ranges and biases learned; needs torch."""
    on.measure(FINETUNE, "finetune", on.base.changes, on.base.floats, on.base)


LADDER = (
    Row("default", default),
    Row("method", method),
    Row("recoveries", recoveries),
    Row("float", floats),
    Row("16 bits", wide),
    Row(FINETUNE, finetune),
)
