"""What a terminal shows of names: they fit its columns, and nothing in them is obeyed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from onnxq.escaping import printable

INDENT = "  "  # of the second line of a name


class Name:
    """A long name in a table: broken after '/' or another separator, never within a word."""

    def __init__(self, text: str) -> None:
        self.text = printable(text)
        self.parts = re.findall(r"[^/.:\s]*[/.:\s]|[^/.:\s]+", self.text) or [""]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """From its longest part, indented, to the whole name."""
        least, whole = max(map(cell_len, self.parts)) + len(INDENT), cell_len(self.text)
        return Measurement(min(least, whole), whole).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many parts a line as fit; a part that is too long for a line is cut in two."""
        lines, width = [""], max(options.max_width, len(INDENT) + 2)
        for part in self.parts:
            if cell_len(lines[-1]) + cell_len(part.rstrip()) > width and lines[-1].strip():
                lines.append(INDENT)
            lines[-1] += part
            while cell_len(lines[-1].rstrip()) > width:
                lines[-1], *rest = chop_cells(lines[-1], width)
                lines.append(INDENT + "".join(rest))
        yield Text("\n".join(line.rstrip() for line in lines), no_wrap=True)


def line(text: str, style: str = "") -> Text:
    """One line, whatever the names in it hold."""
    return Text(printable(text), style)


def ruled(
    title: str, columns: Iterable[str], rows: Iterable[Sequence[str]], names: int
) -> RenderableType:
    """A plain table under its title; all columns but the first `names` are right-aligned."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, name in enumerate(columns):
        made.add_column(printable(name), justify="left" if i < names else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(Name, row[:names]), *map(line, row[names:]))
    return Group(Text(title, style="bold"), made, Text(""))
