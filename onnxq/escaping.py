"""Names from a model, written so that they stay names wherever they go.

A name may hold anything: a terminal's control sequences, a formula, a quote, a newline. Each
function here is for one reader, and leaves the names that people give as they are.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterable
from typing import Literal

FORMULA = "=+-@\t\r"  # what a spreadsheet begins a formula with


def printable(text: str) -> str:
    """For people: what does not print (controls, line breaks, marks that turn the direction of
    writing) as an escape such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def shell_word(word: str) -> str:
    """One word of a line for a shell (bash, zsh): quoted where it has to be."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_in_dollar_quotes, word))}'"


def shell_line(words: Iterable[str]) -> str:
    """A line to copy into a shell."""
    return " ".join(map(shell_word, words))


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """CSV of the rows; a text that a spreadsheet would compute has `'` before it."""
    text = io.StringIO()
    for row in rows:
        cells = [_cell(value) if isinstance(value, str) else value for value in row]
        odd = any("\r" in cell for cell in cells if isinstance(cell, str))  # csv quotes it not
        quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL
        csv.writer(text, lineterminator="\n", quoting=quoting).writerow(cells)
    return text.getvalue()


def from_csv_cell(text: str) -> str:
    """The text that `csv_text` wrote."""
    return text.removeprefix("'")


def markdown_text(text: str) -> str:
    """For a line or a table's cell of Markdown: no markup, no HTML, no end of the cell."""
    return re.sub(r"[\\`*~<>\[\]|]|^[#+-](?=\s)|&(?=#?\w+;)", r"\\\g<0>", printable(text))


def markdown_code(text: str) -> str:
    """The text as code in Markdown."""
    text = printable(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _cell(text: str) -> str:
    return f"'{text}" if text[:1] and text[0] in FORMULA + "'" else text


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _in_dollar_quotes(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    form = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", form))
