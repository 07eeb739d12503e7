"""Options under the names that they had in an earlier release: taken, with a line that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxq_cli import streams

UNTIL = "0.3"


def renamed(words: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """The words of a command line, with the new name for each old one (`--old`, `--old=value`)."""
    found: list[str] = []
    for at, word in enumerate(words):
        if word == "--":
            return [*found, *words[at:]]
        flag, equals, value = word.partition("=")
        if new := names.get(flag):
            say_renamed(flag, new)
            word = f"{new}{equals}{value}"
        found.append(word)
    return found


def say_renamed(old: str, new: str) -> None:
    """One line on what to write from now on."""
    streams.err(f"onnxq: {old} is called {new} now; the old name goes in {UNTIL}")
