"""Every command and option, as Markdown: what docs/cli.md is made of.

`python docs/list_commands.py` writes the page anew; a test says when that is due.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "cli")]

from onnxq_cli.main import COMMANDS, cli  # noqa: E402
from onnxq_cli.sections import Command  # noqa: E402

PAGE = ROOT / "docs" / "cli.md"
BEGINS = "<!-- made by docs/list_commands.py -->\n"  # the site has its own reference from here on


def wrapped(text: str, first: str = "", then: str = "") -> str:
    """A paragraph or a list's item within 100 columns."""
    return textwrap.fill(text, 100, initial_indent=first, subsequent_indent=then,
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip


def commands() -> Iterator[tuple[str, click.Command]]:
    """(the words that call it, the command), those within a group behind it."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", one) for inner, one in command.commands.items())


def entry(words: str, command: click.Command) -> str:
    """The part of the page on one command."""
    ctx = click.Context(command, info_name=f"onnxq {words}")
    parts = [
        f"## onnxq {words}",
        f"`{' '.join([ctx.command_path, *command.collect_usage_pieces(ctx)])}`",
    ]
    parts += [wrapped(" ".join(p.split())) for p in (command.help or "").split("\n\n")]
    if isinstance(command, Command):
        sections = command.sections(ctx)
    else:
        sections = {"Options": [p for p in command.params if isinstance(p, click.Option)]}
    for title, options in sections.items():
        records = [r for o in options if not {"-v", "-q", "--help"} & {*o.opts}
                   if (r := o.get_help_record(ctx))]  # fmt: skip
        if records:
            parts.append(f"{title}:")
            parts.append("\n".join(wrapped(f"`{r[0]}`: {r[1]}", "- ", "  ") for r in records))
    example = (command.epilog or "").removeprefix("Example: ")
    parts.append(f"Example: `{example}`")
    return "\n\n".join(parts)


def page() -> str:
    """The whole page."""
    head = PAGE.read_text("utf-8").partition(BEGINS)[0]
    found = dict(commands())
    listed = [f"- [{words}](#onnxq-{words.replace(' ', '-')}): {command.short_help}"
              for words, command in found.items()]  # fmt: skip
    entries = [entry(words, command) for words, command in found.items()]
    return head + BEGINS + "\n" + "\n\n".join(["\n".join(listed), *entries]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
