"""`--help` in titled sections: an `Option` knows its section, a `Command` names the options that
come first. A command with few options has them in one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import click

from onnxq.option import Section

FEW = 10  # options that need no titles


class Option(click.Option):
    """An option that stands in a section of `--help`."""

    def __init__(self, *args: Any, section: Section = "Output", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class Command(click.Command):
    """A command whose `--help` has sections; `first` names the options of the first one."""

    def __init__(self, *args: Any, first: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first = first

    def sections(self, ctx: click.Context) -> dict[str, list[click.Option]]:
        """The options by the title that they stand under, in order."""
        options = {p.name: p for p in self.get_params(ctx) if isinstance(p, click.Option)}
        if len(options) <= FEW or not self.first:
            return {"Options": list(options.values())}
        first = [options.pop(name) for name in self.first]
        found: dict[str, list[click.Option]] = {"Options": first}
        found |= {title: [] for title in (*get_args(Section), "Help")}
        for option in options.values():
            found[getattr(option, "section", "Help")].append(option)
        return {title: listed for title, listed in found.items() if listed}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list of options for each section."""
        for title, options in self.sections(ctx).items():
            records = [record for o in options if (record := o.get_help_record(ctx))]
            with formatter.section(title):
                formatter.write_dl(records)


def verb(example: str, first: str = "") -> Callable[[Callable[..., Any]], Command]:
    """A command with an example and the names of its first options; `onnxq_cli.main` has its name
    and says what it does in short."""
    return click.command(cls=Command, epilog=f"Example: {example}", first=first.split())
