"""A value written in the form that a path's suffix names: CSV, JSON, Markdown or a plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from onnxq.errors import PlanError
from onnxq.files import write_text
from onnxq.report import figure as figures

T = TypeVar("T")


@dataclass(frozen=True)
class Forms(Generic[T]):
    """what: the value, as messages call it. texts: suffix -> its text. draw: its plot."""

    what: str
    texts: Mapping[str, Callable[[T], str]]
    draw: Callable[[T], figures.Figure]

    def check_path(self, path: Path) -> None:
        """Raises PlanError for a form that `save` cannot write, RuntimeMissing for want of
        matplotlib.

        Meant for before the work is done.
        """
        if path.suffix in figures.FORMS:
            figures.check_path(path)
        elif path.suffix not in self.texts:
            choices = ", ".join((*self.texts, *figures.FORMS))
            raise PlanError(f"cannot write {self.what} as '{path.name}'; choose {choices}")

    def save(self, value: T, path: Path) -> None:
        """Write a value in the form of the suffix, whole or not at all; raises as `check_path`."""
        self.check_path(path)
        if path.suffix in self.texts:
            write_text(path, self.texts[path.suffix](value))
        else:
            figures.write(self.draw(value), path)
