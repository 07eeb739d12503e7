"""From the fields of a dataclass to options, and from their values back to the dataclass.

Name, help, type, choices and default of such an option are the field's (`onnxq.option`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import click

from onnxq.option import Said, choices_of, said_of
from onnxq.schemes import SPOKEN
from onnxq_cli.completion import complete_nodes
from onnxq_cli.paths import OutFile
from onnxq_cli.sections import Option

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]
T = TypeVar("T")

OUT = OutFile()
IN = click.Path(path_type=Path)
PLACES = {"read": IN, "write": OUT, "folder": click.Path(file_okay=False)}
option = partial(click.option, cls=Option)


def options_of(
    kind: type, *names: str, besides: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Add the options that the fields of a dataclass are: those named, or all but `besides`."""
    made = {field.name: _option(field, hint, said) for field, hint, said in said_of(kind)}
    chosen = names or [name for name in made if name not in besides]
    return together(*(made[name] for name in chosen))


def together(*options: Decorator) -> Callable[[Command], Command]:
    """Several options as one decorator, in their order."""

    def add(command: Command) -> Command:
        for each in reversed(options):
            command = each(command)
        return command

    return add


def value_of(kind: type[T], options: Mapping[str, Any], **others: Any) -> T:
    """The dataclass that a command's options spell; those that are None keep their default."""
    given = {
        field.name: options[field.name] * said.unit if said.unit > 1 else options[field.name]
        for field, _, said in said_of(kind)
        if options.get(field.name) is not None
    }
    return kind(**given, **others)


def numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """A tuple from '0,1,2'."""
    try:
        return tuple(int(word) for word in value.split(",")) if value else ()
    except ValueError as e:
        raise click.BadParameter(f"'{value}' is not a list of numbers such as 0,1,2,5") from e


def _option(field: Field[Any], hint: Any, said: Said) -> Decorator:
    flag = said.flag or f"--{field.name.replace('_', '-')}"
    more = _type(hint, said)
    default = None if field.default is MISSING or field.default in ((), None) else field.default
    if default is not None and default is not False:
        more |= {"default": default // said.unit if said.unit > 1 else default,
                 "show_default": True}  # fmt: skip
    return option(
        flag, field.name, help=said.help, section=said.section, metavar=said.metavar, **more
    )


def _type(hint: Any, said: Said) -> dict[str, Any]:
    """What click has to know of a field's type."""
    kinds = (hint, *get_args(hint))
    if words := choices_of(hint) or said.choices:
        whole = {"callback": _whole} if int in kinds else {}
        return {"type": Word([str(word) for word in words]), **whole}
    if said.place is not None:
        return {"type": PLACES[said.place], "multiple": get_origin(hint) is tuple}
    if hint is bool:
        return {"is_flag": True}
    if hint == tuple[int, ...]:
        return {"callback": numbers}
    if hint == tuple[str, ...]:
        patterns = {"shell_complete": complete_nodes} if said.metavar == "PATTERN" else {}
        return {"multiple": True, **patterns}
    if float in kinds:
        bounds = click.FloatRange(said.above, said.most, min_open=True)
        return {"type": float if said.above is None else bounds}
    if int in kinds:
        return {"type": int if said.least is None else click.IntRange(said.least)}
    return {}


class Word(click.Choice):  # type: ignore[type-arg]  # click 8.1 has no arguments for it
    """One of several words; a scheme by the name that it has elsewhere is told its own."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word; fails for another."""
        said = SPOKEN.get(str(value).lower())
        if value not in self.choices and said in self.choices:
            self.fail(f"{value} is called '{said}' here.", param, ctx)
        return super().convert(value, param, ctx)


def _whole(_: click.Context, __: click.Parameter, word: str | None) -> int | None:
    return int(word) if word else None
