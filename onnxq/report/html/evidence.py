"""What a page is made of: a graph, and whatever else is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.inspect.reading import Reading
from onnxq.inspect.reasons import Reasons
from onnxq.model.graph import Graph
from onnxq.plan import Plan
from onnxq.search.result import Result
from onnxq.sensitivity.ranking import Ranking

Document = Mapping[str, Any]
UNKNOWN = Reasons("none", "nothing says why")


@dataclass(frozen=True)
class Evidence:
    """A model, and what else is known of it; sections of the page appear for what is there.

    name: of the model, as the page's title. graph: with Q/DQ, or float; reading: the same, read.
    reasons: why, and the ranges. manifest: that of the quantizing run. ranking, search: what those
    verbs found. engine, comparison, fleet: the documents of `build`, `compare` and
    `build --arch all`. commands: that made it.
    weights: node -> SQNR in dB of its rounded weights. other: a model to show beside it. pictures:
    of samples, as `Pictures.shown` has them.
    """

    name: str
    graph: Graph = field(repr=False)
    reading: Reading = field(repr=False)
    reasons: Reasons = field(default=UNKNOWN, repr=False)
    manifest: Document | None = field(default=None, repr=False)
    stats: Stats | None = field(default=None, repr=False)
    ranking: Ranking | None = field(default=None, repr=False)
    search: Result | None = field(default=None, repr=False)
    engine: Document | None = field(default=None, repr=False)
    comparison: Document | None = field(default=None, repr=False)
    fleet: Document | None = field(default=None, repr=False)
    commands: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict, repr=False)
    other: Evidence | None = field(default=None, repr=False)
    pictures: Sequence[Document] = field(default=(), repr=False)


def planned(plan: Plan, ranges: Ranges | None = None) -> Reasons:
    """The reasons of a model that was made, or would be, from these values."""
    entries = {name: asdict(r) for name, r in ranges.tensors.items()} if ranges else {}
    return Reasons(
        "manifest",
        "as the plan says",
        plan.rules,
        plan.skipped,
        ranges=entries,
        same_values=plan.source,
        tied=plan.tied,
    )
