"""Paths on the command line, checked before any work is done."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from onnxq.errors import OnnxqError
from onnxq.files import LEFT, refuse
from onnxq_cli.verbosity import is_quiet

DATA = (".npy", ".npz", ".json", ".pb", ".png", ".jpg", ".jpeg", ".bmp")
READ, SAID = "onnxq.read", "onnxq.said"
Place = Path | tuple[int, int]
Named = Callable[[Path, Mapping[str, Any]], Path | None]  # of what is read, and all options


class OutFile(click.Path):
    """A file to write: its folder must exist and take files. Checked when options are parsed."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; raises OnnxqError where nothing can be written there."""
        path: Path = super().convert(value, param, ctx)  # type: ignore[assignment]
        check_folder(path)
        refuse(path)
        return path


def check_folder(path: Path) -> None:
    """Raises OnnxqError unless a file can be made in the folder of `path`."""
    folder = path.parent
    if not path.name:
        raise OnnxqError(f"'{path}' is not a file name to write to")
    if not folder.is_dir():
        raise OnnxqError(f"no folder '{folder}' to write '{path.name}' to; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OnnxqError(f"the folder '{folder}' is read-only; write '{path.name}' to another with "
                         "-o or make it writable")  # fmt: skip


def keep_apart(written: Iterable[Path | None], read: Iterable[Path | str | None]) -> None:
    """Raises OnnxqError for a file that is to be written twice, or is also read: an input under any
    of its names, a file in an input folder, or the weights of a model."""
    outputs = [path for path in written if path is not None]
    inputs = [Path(path) for path in read if path is not None]
    taken = {place for path in inputs for place in _places(path)}
    if any(path.exists() for path in outputs):
        taken |= {place for path in inputs for file in _weights(path) for place in _places(file)}
    folders = [path.resolve() for path in inputs if _is_folder(path)]
    seen: set[Place] = set()
    for path in outputs:
        places = _places(path)
        inside = path.exists() and path.suffix in DATA and path.resolve().parent in folders
        if inside or places & taken:
            raise OnnxqError(f"'{path}' is read and would be overwritten; give another output")
        if places & seen:
            raise OnnxqError(f"'{path}' would be written twice; give every output its own name")
        seen |= places


def keep_inputs(command: click.Command) -> None:
    """Let a command, and those within it, write over nothing that it reads, and say what it wrote:
    whatever an option or argument names is read, unless it is an `OutFile`."""
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        keep_inputs(inner)
    run = command.callback
    if run is None or hasattr(run, "__wrapped__"):
        return

    @functools.wraps(run)
    def checked(*args: Any, **kwargs: Any) -> Any:
        ctx = click.get_current_context()
        kwargs |= _named(ctx)
        _check(ctx)
        result = run(*args, **kwargs)
        if not kwargs.get("as_json"):
            say_written()
        return result

    command.callback = checked


def say_written() -> None:
    """Name what was written, once a command: at its end, or before its last word."""
    meta = click.get_current_context().meta
    if SAID in meta or is_quiet() or not (written := LEFT.named()):
        return
    from onnxq.report.text import show
    from onnxq.terminal import line

    meta[SAID] = True
    show(line(f"written: {written}"))


def note_read(ctx: click.Context, path: Path) -> None:
    """Remember a file that a command reads by an option of which it does not see the value."""
    ctx.meta.setdefault(READ, []).append(path)


def beside(suffix: str) -> Named:
    """The name of an output that is not given: that of what is read, with another suffix."""
    return lambda path, _: path.with_name(f"{path.stem}{suffix}")


def _named(ctx: click.Context) -> dict[str, Any]:
    """A name for each output that has one by default and was not given; they go into `ctx` too.

    Raises OnnxqError where nothing can be written there.
    """
    arguments = [p.name or "" for p in ctx.command.params if isinstance(p, click.Argument)]
    given = [ctx.params.get(name) for name in (*arguments[:1], "model", "through")]
    read = next((value for value in given if value), None)
    base = read[0] if isinstance(read, tuple) else read
    found: dict[str, Any] = {}
    for param in ctx.command.params:
        named: Named | None = getattr(param, "named", None)
        if named is None or ctx.params[param.name or ""] or not isinstance(base, Path):
            continue
        if (path := named(base, ctx.params)) is None:
            continue
        if base.is_file():  # if it is not, that is what is said
            check_folder(path)
            if isinstance(param.type, OutFile):
                refuse(path)
        found[param.name or ""] = (path,) if param.multiple else path
    ctx.params |= found
    return found


def _check(ctx: click.Context) -> None:
    written: list[Path] = []
    read: list[Path | str] = list(ctx.meta.get(READ, ()))
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path) and isinstance(param.type, OutFile):
                written.append(one)
            elif isinstance(one, Path | str):
                read.append(str(one).removeprefix("@"))
    keep_apart(written, read)
    for param in (p for p in ctx.command.params if isinstance(p.type, OutFile)):
        _check_form(ctx.params.get(param.name or ""), Path(param.metavar or "FILE").suffix)


def _check_form(path: Any, form: str) -> None:
    """What is FILE.svg in the help ends in .svg, or a viewer takes it for what it is not."""
    if (
        form
        and isinstance(path, Path)
        and path.suffix.lower() not in (form, form.removesuffix("l"))
    ):
        raise OnnxqError(f"'{path}' would hold {form[1:].upper()}; end its name in {form}")


def _places(path: Path) -> set[Place]:
    """What tells a file from others: its path, links followed, and its number on its device."""
    try:
        resolved = path.resolve()
        stat = path.stat() if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # no path at all, or links that go in circles
        return set()
    return {resolved} | ({(stat.st_dev, stat.st_ino)} if stat else set())


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _weights(path: Path) -> list[Path]:
    """The files that a model keeps its weights in; none for what is no model."""
    if path.suffix in (*DATA, ".yaml", ".yml", ".so") or not _places(path) or not path.is_file():
        return []
    import onnx

    from onnxq.model.external import external_files
    from onnxq.model.model_file import EXTERNAL, mentions

    try:
        if not mentions(path, EXTERNAL):
            return []
        model = onnx.load(path, load_external_data=False)
    except Exception:  # whatever it is, it is no model in any form that onnx reads
        return []
    return [path.parent / str(name) for name in external_files(model)]
