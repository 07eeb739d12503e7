"""An option is declared once: a field of a dataclass, with what a command line says of it.

    keep_first: int = option(0, "Leave the first N weighted ops ...", "Placement", "N", least=0)

Name, type, default and the choices of a Literal are the field's own. The commands make their
options of these fields (`onnxq_cli.fields`), and the reference of Python takes their help.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from onnxq.errors import PlanError
from onnxq.schemes import SPOKEN

T = TypeVar("T")
Section = Literal[
    "Engine", "Ranking", "Scoring", "Search", "Placement", "Calibration", "Recovery", "Learning",
    "Precision",
    "Running", "Output",
]  # fmt: skip
Place = Literal["read", "write", "folder"]
KEY = "onnxq.option"


@dataclass(frozen=True)
class Said:
    """What a command says of a field beside its name, type and default.

    section: the heading that it stands under in `--help`. metavar: a word for the value. least,
    most, above: bounds of a number. choices: where the type is no Literal. flag: where it is not
    the field's name. place: what a path is. unit: a command counts in so many of the field's.
    """

    help: str
    section: Section
    metavar: str | None = None
    least: int | None = None
    most: int | None = None
    above: int | None = None
    choices: tuple[str, ...] | tuple[int, ...] = ()
    flag: str | None = None
    place: Place | None = None
    unit: int = 1

    @property
    def metadata(self) -> Mapping[str, Said]:
        """The `metadata` of a field, for one with a `default_factory`."""
        return {KEY: self}


def option(
    default: T,
    help: str,
    section: Section,
    metavar: str | None = None,
    *,
    least: int | None = None,
    most: int | None = None,
    above: int | None = None,
    choices: tuple[str, ...] | tuple[int, ...] = (),
    flag: str | None = None,
    place: Place | None = None,
    unit: int = 1,
) -> T:
    """A field with a default and what `Said` says of it."""
    said = Said(help, section, metavar, least, most, above, choices, flag, place, unit)
    made: Any = field(default=default, metadata=said.metadata)
    chosen: T = made  # what the field of an instance is
    return chosen


def said_of(kind: type) -> Iterator[tuple[Field[Any], Any, Said]]:
    """(field, type, what is said of it) of each field of a dataclass that is an option."""
    hints = hints_of(kind)
    for each in fields(kind):
        if KEY in each.metadata:
            yield each, hints[each.name], each.metadata[KEY]


def choices_of(hint: Any) -> tuple[str, ...]:
    """The words of a Literal; none of another type."""
    return get_args(hint) if get_origin(hint) is Literal else ()


def settle(options: object) -> None:
    """Make the options of a frozen dataclass what their types say: a text where several are meant
    is one of them, and a list is a tuple. Raises PlanError for a value that is no choice."""
    for name, several, choices in _rules(type(options)):
        value = getattr(options, name)
        if several and not isinstance(value, tuple):
            object.__setattr__(options, name, (value,) if isinstance(value, str) else tuple(value))
        elif choices and value is not None and value not in choices:
            said = SPOKEN.get(str(value).lower())
            meant = said if said in choices else " or ".join(map(str, choices))
            raise PlanError(f"unknown {name} '{value}'; choose {meant}")


def _rules(kind: type) -> list[tuple[str, bool, tuple[str, ...] | tuple[int, ...]]]:
    """(field, whether it takes several texts, its choices) of a dataclass."""
    found, hints = [], hints_of(kind)
    for each in fields(kind):
        hint, said = hints[each.name], each.metadata.get(KEY)
        choices = choices_of(hint) or (said.choices if said else ())
        found.append((each.name, hint == tuple[str, ...], choices))
    return found


def hints_of(kind: type) -> Mapping[str, Any]:
    """The types of a dataclass' fields."""
    return get_type_hints(kind)
