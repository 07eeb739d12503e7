"""What saved values share: kind and version in front, the hash of their model, how they are read.

A value is saved as JSON, as YAML, or as an archive with JSON in it; a file is one of this version
or an error that says what it is instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from onnxq.errors import OnnxqError
from onnxq.escaping import csv_text
from onnxq.json_text import from_json, to_json

T = TypeVar("T")
STUMBLES = (LookupError, ValueError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True)
class FileForm:
    """How values of a kind are saved, and what is said where one cannot be read.

    kind, version: what a file begins with. error: the class of what is raised.
    absent: of a path without a file. other: of a file of another kind or version: {found} is what
    was expected and found, {kind} and {version} what was found. broken: of any other file, with
    the {class} of the mistake and {why}. model: of a value whose {own} model is not {this} one.
    """

    kind: str
    version: int
    error: type[OnnxqError] = OnnxqError
    absent: str = ""
    other: str = ""
    broken: str = ""
    model: str = ""

    def head(self) -> dict[str, Any]:
        """The fields in front."""
        return {"kind": self.kind, "version": self.version}

    def to_json(self, document: Mapping[str, Any]) -> str:
        """The text of a file of JSON."""
        return to_json({**self.head(), **document}) + "\n"

    def load(self, path: str | Path, parse: Callable[[Any], T]) -> T:
        """What `parse` makes of the document of a JSON file; raises as `read` and `check`."""

        def of_text(file: Path) -> T:
            document = from_json(file.read_text("utf-8"))
            self.check(document, file)
            return parse(document)

        return self.read(Path(path), of_text)

    def read(
        self,
        path: Path,
        parse: Callable[[Path], T],
        stumbles: tuple[type[Exception], ...] = STUMBLES,
    ) -> T:
        """What `parse` makes of a file; raises `error` where there is none or `parse` stumbles."""
        self.check_there(path)
        try:
            return parse(path)
        except stumbles as e:
            said = {"path": path, "class": type(e).__name__, "why": e}
            raise self.error(self.broken.format(**said)) from e

    def check_there(self, path: Path) -> None:
        """Raises `error` for a path without a file."""
        if not path.is_file():
            raise self.error(self.absent.format(path=path))

    def check(self, document: Mapping[str, Any], path: Path) -> None:
        """Raises `error` for a document of another kind or version."""
        kind, version = document.get("kind"), document.get("version")
        if (kind, version) != (self.kind, self.version):
            found = (
                f"expected kind '{self.kind}' version {self.version}, "
                f"found '{kind}' version {version}"
            )
            said = {"path": path, "found": found, "kind": kind, "version": version}
            raise self.error(self.other.format(**said))

    def check_model(self, own: str, model: str) -> None:
        """Raises `error` unless a value's own model is the one with this hash."""
        if own != model:
            raise self.error(self.model.format(own=own[:12], this=model[:12]))


def value_of(kind: Any, data: Any) -> Any:
    """A value of type `kind` from JSON: a dataclass by its fields, tuples and mappings of such,
    numbers, of which "inf" and "nan" are some, text, None. Raises KeyError, TypeError, ValueError
    or AttributeError for data of other types."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        if isinstance(data, kind):
            return data
        types = _types_of(kind)
        return kind(**{f.name: value_of(types[f.name], data[f.name]) for f in fields(kind)})
    if origin is tuple:
        kinds = [inner[0]] * len(data) if inner[-1] is ... else inner
        return tuple(value_of(*pair) for pair in zip(kinds, data, strict=True))
    if origin is Mapping:
        return {inner[0](key): value_of(inner[1], value) for key, value in data.items()}
    if type(None) in inner:
        return None if data is None else value_of(inner[0], data)
    return kind(data)


@cache
def _types_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def csv_of(rows: Iterable[Mapping[str, object]]) -> str:
    """CSV of rows by column; a cell that a row does not have is empty."""
    every = list(rows)
    columns = list(dict.fromkeys(key for row in every for key in row))
    return csv_text([columns, *([row.get(key, "") for key in columns] for row in every)])
