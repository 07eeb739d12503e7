"""A sensitivity ranking as tables and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from onnxq.judge.units import with_unit
from onnxq.report import plot_ranking
from onnxq.report.figure import Figure
from onnxq.report.forms import Forms
from onnxq.sensitivity.ranking import Ranking, Row, Score
from onnxq.table import Table
from onnxq.terminal import line
from onnxq.words import count


def render(ranking: Ranking, top: int) -> RenderableType:
    """Tables for a terminal: the `top` worst units, then the curve; what fits 80 columns."""
    score = with_unit(ranking.metric, ranking.metric)
    columns = ["node", "rank", score, *_parts(ranking), "share %"]
    rows = []
    for row in ranking.rows[:top]:
        name, rank, _, *scores = _cells(row, _parts(ranking))[: len(columns)]
        rows.append([name, rank, *scores, f"{100 * row.share:.1f} ± {_error(row)}"])
    shown = f", the worst {len(rows)} of {len(ranking.rows)}" if top < len(ranking.rows) else ""
    parts: list[RenderableType] = [Table(_title(ranking) + shown, columns, rows)]
    if ranking.curve:
        title = "With the worst left float"
        parts.append(Table(title, ("left float", score), _curve(ranking)))
    parts.append(line(_footing(ranking)))
    return Group(*parts)


def markdown(ranking: Ranking) -> str:
    """Tables in Markdown: every unit, then the curve."""
    parts, score = _parts(ranking), with_unit(ranking.metric, ranking.metric)
    columns = ["node", "rank", "op", score, *parts, "share %", "±",
               "clipped %", "parameters", "MACs"]  # fmt: skip
    every = Table(_title(ranking), columns, [_cells(row, parts) for row in ranking.rows])
    passages = [f"# {every.title}", _footing(ranking), every.markdown()]
    if ranking.curve:
        curve = Table("", ("worst units left float", score), _curve(ranking))
        passages.append(curve.markdown())
    return "\n\n".join(passages) + "\n"


def _title(ranking: Ranking) -> str:
    done = "quantized alone" if ranking.mode == "one-on" else "alone left float"
    where = "the outputs" if ranking.at == "outputs" else "the node"
    return f"Each {ranking.granularity} {done}, {ranking.metric} at {where}"


def _footing(ranking: Ranking) -> str:
    known = {"float": ranking.float_score, "all quantized": ranking.quantized_score}
    scores = [f"{name} {_number(s)}" for name, s in known.items() if s is not None]
    ties = "= marks ranks that the samples cannot tell apart"
    return "; ".join([_samples(ranking), *scores, ties])


def _samples(ranking: Ranking) -> str:
    fewest = min((row.samples for row in ranking.rows), default=ranking.samples)
    if fewest == ranking.samples:
        return count(ranking.samples, "sample")
    worst = sum(row.samples == ranking.samples for row in ranking.rows)
    return f"{ranking.samples} samples, for all but the worst {worst} units {fewest} of them"


def _parts(ranking: Ranking) -> list[str]:
    return list(dict.fromkeys(part for row in ranking.rows for part in row.parts))


def _cells(row: Row, parts: Sequence[str]) -> list[str]:
    return [
        row.name,
        row.place,
        row.op,
        _number(row.overall.score),
        *(_number(row.parts[p].score) if p in row.parts else "-" for p in parts),
        f"{100 * row.share:.1f}",
        _error(row),
        f"{100 * row.sat_ratio:.3g}",
        _short(row.parameters),
        _short(row.macs),
    ]


def _error(row: Row) -> str:
    """The standard error of a share, as far as it comes from the row's own damage."""
    score: Score = row.overall
    if score.stderr is None or score.damage <= 0:
        return "-"
    return f"{100 * row.share * score.stderr / score.damage:.1f}"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _short(count: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def _curve(ranking: Ranking) -> list[tuple[str, str]]:
    return [(str(k), _number(score)) for k, score in ranking.curve]


def _plot(ranking: Ranking) -> Figure:
    return plot_ranking.draw(plot_ranking.bars_of(ranking))


FORMS = Forms(
    "a ranking", {".csv": Ranking.to_csv, ".json": Ranking.to_json, ".md": markdown}, _plot
)
check_path, save = FORMS.check_path, FORMS.save
