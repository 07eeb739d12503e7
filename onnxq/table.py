"""A table as a value: shown in a terminal, as Markdown and as HTML.

The first `names` columns are names, left-aligned; the others are numbers, to the right. Whatever a
name holds, it stays a name: each form escapes what its reader would take for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Protocol

from onnxq.escaping import markdown_text

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 12  # rows of a table in a notebook
DIGITS, FEWER = 5, 4  # of a number that is no text yet; in a notebook


@dataclass(frozen=True)
class Table:
    """Rows of cells under `columns`, of which the first `names` hold names."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    names: int = 1

    def __rich__(self) -> RenderableType:
        """For a terminal: under its title, long names folded."""
        from onnxq.terminal import ruled

        rows = [[_text(cell, DIGITS) for cell in row] for row in self.rows]
        return ruled(self.title, self.columns, rows, self.names)

    def markdown(self) -> str:
        """Every row, without the title; no newline at its end."""
        sides = ["---" if i < self.names else "--:" for i in range(len(self.columns))]
        lines = [self.columns, sides, *self.rows]
        cells = ([markdown_text(_text(cell, DIGITS)) for cell in line] for line in lines)
        return "\n".join(f"| {' | '.join(line)} |" for line in cells)

    def _repr_html_(self) -> str:
        """The first rows, without the title, and how many more there are."""
        body = [self._line("td", row) for row in self.rows[:SHOWN]]
        if len(self.rows) > SHOWN:
            more = f"and {len(self.rows) - SHOWN} more"
            body.append(f'<tr><td colspan="{len(self.columns)}">{more}</td></tr>')
        head = self._line("th", self.columns)
        return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"

    def _line(self, tag: str, cells: Sequence[object]) -> str:
        made = (
            f'<{tag} style="text-align:{"left" if i < self.names else "right"}">'
            f"{escape(_text(cell, FEWER))}</{tag}>"
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(made)}</tr>"


class Shown(Protocol):
    """What a notebook can show."""

    def _repr_html_(self) -> str: ...


@dataclass(frozen=True)
class Folded:
    """What a notebook shows once its title is clicked."""

    title: str
    inner: Shown

    def _repr_html_(self) -> str:
        inner = self.inner._repr_html_()
        return f"<details><summary>{escape(self.title)}</summary>{inner}</details>"


def page(heading: str, *parts: Shown | str) -> str:
    """What a notebook shows of a value: its heading, its tables, lines of text."""
    head = f"<strong>{escape(heading)}</strong>" if heading else ""
    made = (f"<p>{escape(p)}</p>" if isinstance(p, str) else p._repr_html_() for p in parts)
    return f"<div>{head}{''.join(made)}</div>"


def _text(cell: object, digits: int) -> str:
    return f"{cell:.{digits}g}" if isinstance(cell, float) else str(cell)
