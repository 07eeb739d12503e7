"""What a climb found: every rung with what it was measured at, and the one taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from onnxq.errors import PlanError
from onnxq.judge.units import label
from onnxq.pipeline.quantize import Quantized
from onnxq.saved import FileForm, value_of
from onnxq.table import Table, page
from onnxq.words import count

FORM = FileForm(
    "onnxq.tuning", 1, PlanError,
    absent="no tuning at '{path}'; 'onnxq tune' writes one",
    other="'{path}' is not a tuning that this version reads (kind '{kind}', version {version})",
    broken="'{path}' is not a tuning that can be read ({class}: {why})",
)  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """A way to quantize, and what it was measured at.

    row: of the ladder. changes: options that are other than those asked for, by name. floats: nodes
    left float besides. why: why it was not made, empty for one that was. figure: by the goal. part,
    sqnr_db: the worst part of the outputs, as `quantize` says it. macs: share of the
    multiply-accumulates that are quantized. cost: of the engine, as a share of the float model's,
    NaN where it is not known. nodes: how many are quantized.
    """

    row: str
    name: str
    changes: Mapping[str, str] = field(default_factory=dict)
    floats: tuple[str, ...] = ()
    why: str = ""
    figure: float = math.nan
    part: str = ""
    sqnr_db: float = math.nan
    macs: float = math.nan
    cost: float = math.nan
    nodes: int = 0
    seconds: float = 0.0
    holds: bool = False

    @property
    def made(self) -> bool:
        """Whether it was made and measured."""
        return not self.why


@dataclass(frozen=True)
class Tuned:
    """The rungs in the order in which they were climbed, and the one taken: the cheapest of
    those that hold, else the best.

    key: what was asked, of which model and data. goal: in words. scored_by: see `Goal`. reference:
    the float model's figure. priced_by: the model of cost. samples: that judged; seen: what part
    they took besides, empty for none. chosen: the place of the rung taken, None before the end.
    result: the model of that rung, None where it was not made again.
    """

    key: str
    model: str
    goal: str
    scored_by: str
    higher_is_better: bool
    reference: float
    priced_by: str
    samples: int
    seen: str
    rungs: tuple[Rung, ...] = ()
    chosen: int | None = None
    result: Quantized | None = field(default=None, repr=False, compare=False)

    @property
    def taken(self) -> Rung | None:
        """The rung taken; None before the end."""
        return None if self.chosen is None else self.rungs[self.chosen]

    @property
    def holds(self) -> bool:
        """Whether the goal is met."""
        return self.taken is not None and self.taken.holds

    @property
    def seconds(self) -> float:
        """What all rungs took."""
        return sum(rung.seconds for rung in self.rungs)

    def better(self, a: Rung, b: Rung) -> bool:
        """Whether rung `a` does better than `b`, by the figure and, where that is the same, by the
        SQNR."""
        return self._goodness(a) > self._goodness(b)

    def _goodness(self, rung: Rung) -> tuple[float, float]:
        figure = rung.figure if self.higher_is_better else -rung.figure
        return tuple(-math.inf if math.isnan(x) else x for x in (figure, rung.sqnr_db))  # type: ignore[return-value]

    def best(self) -> int | None:
        """The place of the rung that does best, the first of equals; None where none was made."""
        made = [i for i, rung in enumerate(self.rungs) if rung.made]
        return max(made, key=lambda i: (self._goodness(self.rungs[i]), -i), default=None)

    def choice(self) -> int | None:
        """The place of the rung to take: the cheapest that holds; where none does, the best."""
        holding = [i for i, rung in enumerate(self.rungs) if rung.holds]
        return min(holding, key=self._price, default=self.best())

    def _price(self, i: int) -> tuple[float, float, int]:
        cost, macs = self.rungs[i].cost, self.rungs[i].macs
        return (math.inf if math.isnan(cost) else cost, math.inf if math.isnan(macs) else -macs, i)

    def judges(self) -> str:
        """The samples that judged: `8 held-out samples`, or what part they took besides."""
        held = "" if self.seen else "held-out "
        return f"{count(self.samples, f'{held}sample')}{' ' if self.seen else ''}{self.seen}"

    def __repr__(self) -> str:
        taken = self.taken
        said = "not at its end" if taken is None else f"taken: {taken.name}"
        met = "met" if self.holds else "not met"
        return f"Tuned({len(self.rungs)} rungs for {self.goal}, {met}; {said})"

    def _repr_html_(self) -> str:
        return page(f"{count(len(self.rungs), 'rung')} for {self.goal}", self.table())

    def table(self) -> Table:
        """The rungs; those that were not made have no figures."""
        by_sqnr = self.scored_by == "sqnr"
        columns = ["rung", *([] if by_sqnr else [label(self.scored_by)]), "SQNR, dB",
                   "quantized %", f"cost ({Path(self.priced_by).name})", "s", "holds"]  # fmt: skip
        rows = [self._row(i, rung, by_sqnr) for i, rung in enumerate(self.rungs)]
        return Table("The ladder", columns, rows)

    def _row(self, i: int, rung: Rung, by_sqnr: bool) -> Sequence[str]:
        name = f"{rung.name}, taken" if i == self.chosen else rung.name
        figures = [f"{rung.sqnr_db:.1f}", f"{100 * rung.macs:.1f}", _number(rung.cost)]
        own = [] if by_sqnr else [f"{rung.figure:.4g}"]
        if not rung.made:
            own, figures = ["-"] * len(own), ["-"] * len(figures)
        holds = "yes" if rung.holds else "no" if rung.made else "not made"
        return [name, *own, *figures, f"{rung.seconds:.0f}", holds]

    def to_json(self) -> str:
        """Everything but the model; infinite figures are strings ("inf")."""
        document = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "result"}
        return FORM.to_json({**document, "rungs": [asdict(rung) for rung in self.rungs]})

    @staticmethod
    def load(path: str | Path) -> Tuned:
        """Read what `to_json` wrote; raises PlanError for a file that is none."""
        return FORM.load(path, _from_document)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _from_document(document: Any) -> Tuned:
    rungs = tuple(value_of(Rung, one) for one in document["rungs"])
    found: Tuned = value_of(Tuned, {**document, "rungs": rungs, "result": None})
    if found.chosen is not None and not 0 <= found.chosen < len(rungs):
        raise ValueError(f"rung {found.chosen} of {len(rungs)} was chosen")
    return found
