"""The ranking: what each unit costs, the worst first, with ties shown as ties.

`damage` is what the rows are sorted by and what shares are of; 0 where nothing is lost. Its
standard error is the jackknife's: the spread of the damage with one sample left out each time. Rows
share a rank where they differ by less than twice the standard error of their paired difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnxq.errors import PlanError
from onnxq.files import write_text
from onnxq.judge.units import label
from onnxq.model.patterns import exactly
from onnxq.saved import FileForm, csv_of, value_of
from onnxq.table import Table, page

FORM = FileForm(
    "onnxq.ranking", 1, PlanError,
    absent="no ranking at '{path}'; 'onnxq sensitivity -o ranking.json' makes one",
    other="'{path}' is not a ranking that can be read: of another kind or version",
    broken="'{path}' is not a ranking that can be read: {why}",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """A score, the damage it stands for, and the standard error of that (None: not known)."""

    score: float
    damage: float
    stderr: float | None = None


@dataclass(frozen=True)
class Row:
    """One unit.

    rank: 1 is the worst; units that samples cannot tell apart share it, and `tied` says so.
    name, op, nodes: the node, or the group and its nodes. overall: at the worst output.
    outputs: score at each. share: of the damage of all units. parts: activations and weights alone.
    sat_ratio: the largest of its activations. parameters, macs: how large it is. samples: how many
    it is scored on.
    """

    rank: int
    tied: bool
    name: str
    op: str
    nodes: tuple[str, ...]
    overall: Score
    outputs: Mapping[str, float]
    share: float
    parts: Mapping[str, Score]
    sat_ratio: float
    parameters: int
    macs: int
    samples: int

    @property
    def place(self) -> str:
        """Its rank as people read it: `3`, or `3=` where it shares it."""
        return f"{self.rank}{'=' if self.tied else ''}"


@dataclass(frozen=True)
class Ranking:
    """Rows with the worst first, and what they were measured by.

    float_score: of the float model, None where the metric compares with it. quantized_score: of the
    model with every unit quantized, at the worst output, None where that was not measured.
    curve: (how many of the worst units are left float, score at the worst output).
    """

    model: str
    mode: str
    granularity: str
    metric: str
    higher_is_better: bool
    at: str
    samples: int
    rows: tuple[Row, ...]
    float_score: float | None = None
    quantized_score: float | None = None
    curve: tuple[tuple[int, float], ...] = field(default=())

    def __repr__(self) -> str:
        first = self.rows[0] if self.rows else None
        worst = f", the worst '{first.name}' with {100 * first.share:.3g} %" if first else ""
        return f"Ranking({len(self.rows)} {self.granularity}s {self.mode} by {self.metric}{worst})"

    def _repr_html_(self) -> str:
        heading = f"{len(self.rows)} units by {self.mode}, {self.samples} samples"
        return page(heading, self.table())

    def table(self) -> Table:
        """The units, the worst first."""
        rows = [
            (row.place, row.name, row.op, row.overall.score, f"{100 * row.share:.1f}")
            for row in self.rows
        ]
        columns = ("rank", self.granularity, "op", label(self.metric), "share of damage, %")
        return Table("Ranking", columns, rows, names=3)

    def worst(self, count: int) -> list[str]:
        """Names of the nodes of the `count` worst units."""
        return list(dict.fromkeys(name for row in self.rows[:count] for name in row.nodes))

    def skip_list(self, count: int) -> str:
        """The text of a file for `--skip @FILE`: the nodes of the `count` worst units, exactly."""
        head = f"# the {min(count, len(self.rows))} most sensitive by {self.metric}, {self.mode}\n"
        return head + "".join(f"{exactly(name)}\n" for name in self.worst(count))

    def save(self, path: str | Path) -> None:
        """Write `.csv` or `.json`, whole or not at all; raises PlanError for another suffix."""
        path = Path(path)
        texts = {".csv": self.to_csv, ".json": self.to_json}
        if path.suffix not in texts:
            raise PlanError(f"cannot write a ranking as '{path.name}'; choose .csv or .json")
        write_text(path, texts[path.suffix]())

    def to_csv(self) -> str:
        """A line a unit; a column for every output's score."""
        return csv_of(map(_flat, self.rows))

    def to_json(self) -> str:
        """Everything; infinite scores are strings ("inf"), as JSON has none."""
        return FORM.to_json(asdict(self))

    @staticmethod
    def load(path: str | Path) -> Ranking:
        """Read the `.json` form; raises PlanError for a file that is not a ranking."""
        return FORM.load(path, _from_document)


def _flat(row: Row) -> dict[str, object]:
    found: dict[str, object] = {
        "rank": row.rank,
        "tied": int(row.tied),
        "node": row.name,
        "op": row.op,
        "score": row.overall.score,
        "damage": row.overall.damage,
        "stderr": row.overall.stderr,
        "share": row.share,
    }
    if len(row.outputs) > 1:
        found |= {f"score:{name}": score for name, score in row.outputs.items()}
    for part, score in row.parts.items():
        found |= {f"{part}_score": score.score, f"{part}_damage": score.damage}
    return found | {
        "sat_ratio": row.sat_ratio,
        "parameters": row.parameters,
        "macs": row.macs,
        "samples": row.samples,
    }


def _from_document(document: Any) -> Ranking:
    ranking: Ranking = value_of(Ranking, document)
    for row in ranking.rows:
        for name, value in (("share", row.share), ("sat_ratio", row.sat_ratio)):
            if not math.isfinite(value):
                raise ValueError(f"'{name}' of '{row.name}' is {value}")
    return ranking
