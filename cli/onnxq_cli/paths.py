"""Paths on the command line, checked before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from onnxq.errors import OnnxqError


class OutFile(click.Path):
    """A file to write: its folder must exist and take files. Checked when options are parsed."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; raises OnnxqError where nothing can be written there."""
        path: Path = super().convert(value, param, ctx)  # type: ignore[assignment]
        check_folder(path)
        return path


def check_folder(path: Path) -> None:
    """Raises OnnxqError unless a file can be made in the folder of `path`."""
    folder = path.parent
    if not path.name:
        raise OnnxqError(f"'{path}' is no file name to write to")
    if not folder.is_dir():
        raise OnnxqError(f"no folder '{folder}' to write '{path.name}' to; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OnnxqError(f"the folder '{folder}' is read-only; write '{path.name}' to another with "
                         "-o or make it writable")  # fmt: skip


def keep_apart(written: Iterable[Path | None], read: Iterable[Path | str | None]) -> None:
    """Raises OnnxqError for a file that is to be written twice, or is also read."""
    inputs = {Path(p).resolve() for p in read if p is not None}
    seen: set[Path] = set()
    for path in filter(None, written):
        place = path.resolve()
        if place in inputs:
            raise OnnxqError(f"'{path}' is read and would be overwritten; give another output")
        if place in seen:
            raise OnnxqError(f"'{path}' would be written twice; give every output its own name")
        seen.add(place)
