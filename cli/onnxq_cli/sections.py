"""`--help` in titled sections: an `Option` knows its section, a `Command` names the options that
come first. A command with few options has them in one list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import click

from onnxq.option import Section
from onnxq_cli.old_options import renamed
from onnxq_cli.paths import Named

FEW = 10  # options that need no titles


class Option(click.Option):
    """An option that stands in a section of `--help`; `named` names an output that is not given."""

    def __init__(
        self, *args: Any, section: Section = "Output", named: Named | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.section, self.named = section, named


class Command(click.Command):
    """A command whose `--help` has sections; `first` names the options of the first one, `old`
    has the name of today for each that an option had in the last release."""

    def __init__(
        self,
        *args: Any,
        first: Sequence[str] = (),
        old: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.first = first
        self.old = old or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was typed, old names of options among it."""
        return super().parse_args(ctx, renamed(args, self.old))

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


def verb(
    example: str, first: str = "", old: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Any]], Command]:
    """A command with an example, the names of its first options, and old names of options;
    `onnxq_cli.main` has its name and says what it does in short."""
    return click.command(cls=Command, epilog=f"Example: {example}", first=first.split(), old=old)
