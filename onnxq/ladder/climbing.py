"""The climb: rung after rung is made and measured until one holds.

A row of the ladder is a function that tries rungs on a `Climb`: `measure` makes a rung of what the
best one so far has, `leave_out` says why one cannot be made. Rungs that an earlier run finished are
taken as they were measured.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from onnxq.cost.pricing import Price, priced
from onnxq.cost.shapes import shapes_of
from onnxq.errors import ModelError, OnnxqError
from onnxq.finetune.missing import require
from onnxq.finetune.options import FinetuneOptions
from onnxq.judge.judged import judged_tensors
from onnxq.ladder.judging import Judge
from onnxq.ladder.result import Rung, Tuned
from onnxq.pipeline import original
from onnxq.pipeline.config import Config
from onnxq.pipeline.keywords import composed
from onnxq.pipeline.opened import Opened
from onnxq.pipeline.quantize import Quantized, made, planned
from onnxq.pipeline.ranging import Given
from onnxq.pipeline.recoveries import Learner
from onnxq.pipeline.source import prepare
from onnxq.pipeline.steps import runtime_of
from onnxq.plan import Plan
from onnxq.progress import stage
from onnxq.run.segments import Shapes

log = logging.getLogger(__name__)
FINETUNE = "finetune"  # the row whose rungs learn
WORTH_DB = 0.5  # of a recovery that the next rungs go on with
SAME_DB = 0.005  # between two runs of one model, whose threads may add up in another order
NOTHING = "it changes nothing here, or nothing that helps"


@dataclass
class Climb:
    """What the rows of a ladder work on.

    opened: the model as it is quantized first. judge: of the goal. config: what was asked for.
    record: the rungs so far. before: those that an earlier run finished. plan_from: where every
    plan starts, None for the target's table. folder: for what a killed run leaves. learning:
    how much `finetune` learns. price: what plans cost by. told: with the record after every rung.
    """

    opened: Opened
    judge: Judge
    config: Config
    record: Tuned
    before: Sequence[Rung] = ()
    plan_from: Plan | None = None
    folder: Path | None = None
    learning: FinetuneOptions = field(default_factory=FinetuneOptions)
    price: Price = field(default_factory=Price)
    told: Callable[[Tuned], None] = lambda tuned: None
    _made: dict[int, Quantized] = field(default_factory=dict, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether a rung holds."""
        return any(rung.holds for rung in self.record.rungs)

    @property
    def base(self) -> Rung:
        """What the next rungs build on: the last one that was worth its time. The row that goes
        first has none."""
        first, *others = [rung for rung in self.record.rungs if rung.made]
        base = first
        for rung in others:
            if self.record.better(rung, base) and self._is_worth(rung, base):
                base = rung
        return base

    def _is_worth(self, rung: Rung, base: Rung) -> bool:
        """Whether what a rung gains is worth its time in every rung to come: a method takes none,
        and another figure than the SQNR may move in steps."""
        if rung.row == "method" or self.record.scored_by != "sqnr":
            return True
        return rung.sqnr_db - base.sqnr_db >= WORTH_DB

    def seen(self, row: str) -> list[Rung]:
        """What an earlier run finished of a row."""
        return [rung for rung in self.before if rung.row == row]

    def config_of(self, rung: Rung) -> Config:
        """How a rung is quantized."""
        return composed(self.config, rung.changes)  # type: ignore[arg-type]

    def plan_of(self, rung: Rung) -> Plan:
        """Where a rung is quantized; raises PlanError for nowhere."""
        config = self.config_of(rung)
        start = self.plan_from if "scheme" not in rung.changes else None
        plan = planned(self.opened_for(config).source, config, start)
        chosen_on = self.opened.check.digest() if self.record.rungs else ""
        plan = replace(plan, chosen_on=chosen_on)
        return plan.without(*rung.floats, reason="left float by tune") if rung.floats else plan

    def opened_for(self, config: Config) -> Opened:
        """The model as this configuration prepares it."""
        if config.placement.scheme == self.config.placement.scheme:
            return self.opened
        if config.placement.scheme not in self._others:
            source = prepare(self.opened.source.path, config)
            original.hold(source, self.opened.dataset, runtime_of(config))
            self._others[config.placement.scheme] = self.opened.prepared(source)
        return self._others[config.placement.scheme]

    @cached_property
    def _others(self) -> dict[str, Opened]:
        return {}

    def measure(
        self,
        row: str,
        name: str,
        changes: Mapping[str, str],
        floats: Sequence[str] = (),
        over: Rung | None = None,
    ) -> Rung:
        """Make a rung and score it; one that cannot be made is left out with the reason, but for
        the first, which raises; so is one that gives what `over` gave. One that an earlier run
        finished is taken as it was."""
        asked = Rung(row, name, dict(changes), tuple(floats))
        same = (asked.row, asked.changes, asked.floats)
        for known in self.before:
            if (known.row, known.changes, known.floats) == same:
                return self.again(known)
        begun = time.perf_counter()
        try:
            with stage(name):
                found, result = self._measured(asked)
        except OnnxqError as e:
            if not self.record.rungs:
                raise
            found, result = replace(asked, why=str(e)), None
        if over is not None and found.made and abs(found.sqnr_db - over.sqnr_db) < SAME_DB:
            found, result = replace(asked, why=NOTHING), None
        return self._add(replace(found, seconds=time.perf_counter() - begun), result)

    def again(self, known: Rung) -> Rung:
        """A rung that an earlier run finished."""
        return self._add(known)

    def leave_out(self, row: str, name: str, why: str, seconds: float = 0.0) -> Rung:
        """A rung that is not made."""
        return self._add(Rung(row, name, why=why, seconds=seconds))

    def _add(self, rung: Rung, result: Quantized | None = None) -> Rung:
        place = len(self.record.rungs)
        self.record = replace(self.record, rungs=(*self.record.rungs, rung))
        if result is not None:
            self._made[place] = result
        taken = self.record.choice()
        self._made = {k: v for k, v in self._made.items() if k == taken}
        said = rung.why or f"{rung.figure:.5g}"
        log.info("%s: %s, %.1f s", rung.name, said, rung.seconds)
        self.told(self.record)
        return rung

    def _measured(self, asked: Rung) -> tuple[Rung, Quantized]:
        config = self.config_of(asked)
        plan, opened = self.plan_of(asked), self.opened_for(config)
        learner = self._learner(config, opened) if asked.row == FINETUNE else None
        result = made(opened, plan, config, Given(learner=learner))
        figure = self.judge.figure(result)
        headline = result.agreement.headline
        cost, macs = self.priced(result.plan, config)
        found = replace(
            asked,
            figure=figure,
            part="" if headline is None else headline.part,
            sqnr_db=math.nan if headline is None else headline.sqnr_db,
            macs=macs,
            cost=cost,
            nodes=len(result.plan.nodes),
            holds=self.judge.goal.holds(figure, self.record.reference),
        )
        return found, result

    def _learner(self, config: Config, opened: Opened) -> Learner:
        """What learns against the float model; raises RuntimeMissing without torch, ModelError for
        ops that it does not know."""
        require()
        from onnxq.finetune.finetuning import Finetune

        state = None if self.folder is None else self.folder / "finetune.npz"
        learner = Finetune(self.learning, config.seed or 0, state, config.workers)
        learner.check(opened.source.graph, judged_tensors(opened.source.graph))
        return learner

    def priced(self, plan: Plan, config: Config) -> tuple[float, float]:
        """(cost of a plan as a share of the float model's, share of the multiply-accumulates that
        are quantized); NaN where shapes are not known."""
        graph = self.opened_for(config).source.graph
        try:
            found = priced(graph, {"made": plan}, config.high_precision, self._shapes,
                           self.price.model, self.price.layers, self.price.rates)  # fmt: skip
        except ModelError as e:
            log.info("no cost: %s", e)
            return math.nan, math.nan
        counted = dict.fromkeys((n for n in plan.nodes if n in found.macs), "made")
        chosen = {n: choice for n, choice in counted.items() if n in found.of}
        return found.total(chosen, plan), 1.0 - found.shares(counted)["float"].macs

    @cached_property
    def _shapes(self) -> Shapes:
        source, first = self.opened.source, self.opened.rest.sample(0)
        names = [node.name for node in source.graph.nodes]
        return shapes_of(source.graph, names, first, runtime_of(self.config))

    def result(self, place: int) -> Quantized:
        """The model of a rung, made again where it was not kept."""
        if place not in self._made:
            rung = self.record.rungs[place]
            whole = self.record
            self.record = replace(whole, rungs=whole.rungs[:place])  # as it was then
            try:
                self._made[place] = self._measured(rung)[1]
            finally:
                self.record = whole
        return self._made[place]


@dataclass(frozen=True)
class Row:
    """A row of the ladder: its name, and what tries its rungs."""

    name: str
    tries: Callable[[Climb], None]


def climb(ladder: Sequence[Row], on: Climb) -> Tuned:
    """The ladder climbed until a rung holds; the best where none does. Raises as `quantize` for
    the first rung."""
    for row in ladder:
        if on.is_over:
            break
        row.tries(on)
    chosen = on.record.choice()
    assert chosen is not None
    return replace(on.record, chosen=chosen, result=on.result(chosen))
