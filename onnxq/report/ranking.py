"""A sensitivity ranking as tables and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Group, RenderableType

from onnxq.errors import PlanError
from onnxq.escaping import markdown_text
from onnxq.files import replacing
from onnxq.report import figure as figures
from onnxq.report import plot_ranking
from onnxq.report.text import count, line, table
from onnxq.sensitivity.ranking import Ranking, Row, Score

SUFFIXES = (".csv", ".json", ".md", *figures.FORMS)
UNITS = {"sqnr": "dB", "top1": "%"}


def check_path(path: Path) -> None:
    """Raises PlanError for a form that `save` cannot write, RuntimeMissing for want of matplotlib.

    Meant for before the work is done.
    """
    if path.suffix not in SUFFIXES:
        raise PlanError(f"cannot write a ranking as '{path.name}'; choose {', '.join(SUFFIXES)}")
    if path.suffix in figures.FORMS:
        figures.check_path(path)


def save(ranking: Ranking, path: Path) -> None:
    """Write a ranking as CSV, JSON, Markdown or a plot, by the suffix; raises as `check_path`."""
    check_path(path)
    if path.suffix == ".md":
        with replacing(path) as temporary:
            temporary.write_text(markdown(ranking), "utf-8")
    elif path.suffix in figures.FORMS:
        figures.write(plot_ranking.draw(plot_ranking.bars_of(ranking)), path)
    else:
        ranking.save(path)


def render(ranking: Ranking, top: int) -> RenderableType:
    """Tables for a terminal: the `top` worst units, then the curve; what fits 80 columns."""
    columns = ["node", "rank", _score_name(ranking), *_parts(ranking), "share %"]
    rows = []
    for row in ranking.rows[:top]:
        name, rank, _, *scores = _cells(row, _parts(ranking))[: len(columns)]
        rows.append([name, rank, *scores, f"{100 * row.share:.1f} ± {_error(row)}"])
    shown = f", the worst {len(rows)} of {len(ranking.rows)}" if top < len(ranking.rows) else ""
    parts: list[RenderableType] = [table(_title(ranking) + shown, columns, rows)]
    if ranking.curve:
        title = "With the worst left float"
        parts.append(table(title, ("left float", _score_name(ranking)), _curve(ranking)))
    parts.append(line(_footing(ranking)))
    return Group(*parts)


def markdown(ranking: Ranking) -> str:
    """Tables in Markdown: every unit, then the curve."""
    lines = [f"# {_title(ranking)}", "", _footing(ranking), ""]
    lines += _markdown_table(
        _columns(ranking), [_cells(row, _parts(ranking)) for row in ranking.rows]
    )
    if ranking.curve:
        columns = ("worst units left float", _score_name(ranking))
        lines += ["", *_markdown_table(columns, _curve(ranking))]
    return "\n".join(lines) + "\n"


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


def _score_name(ranking: Ranking) -> str:
    unit = UNITS.get(ranking.metric)
    return f"{ranking.metric} {unit}" if unit else ranking.metric


def _columns(ranking: Ranking) -> list[str]:
    return ["node", "rank", "op", _score_name(ranking), *_parts(ranking), "share %", "±",
            "clipped %", "parameters", "MACs"]  # fmt: skip


def _parts(ranking: Ranking) -> list[str]:
    return list(dict.fromkeys(part for row in ranking.rows for part in row.parts))


def _cells(row: Row, parts: Sequence[str]) -> list[str]:
    return [
        row.name,
        f"{row.rank}{'=' if row.tied else ''}",
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


def _markdown_table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *rows]
    escaped = ((markdown_text(cell) for cell in line) for line in lines)
    return [f"| {' | '.join(cells)} |" for cells in escaped]
