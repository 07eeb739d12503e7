"""Files that are written whole or not at all, and never in the place of what is no file."""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from onnxq.errors import ModelError, OnnxqError


@dataclass(frozen=True)
class _Unfinished:
    """A file under a temporary name, and the path that is to be its own."""

    temporary: Path
    path: Path
    last: bool
    is_new: bool

    @property
    def before(self) -> Path:
        """A second name for what is at the path."""
        return self.temporary.with_suffix(".old")


@dataclass
class _Group:
    """What is to appear together, and what is to go then. begun: every temporary name."""

    files: list[_Unfinished] = field(default_factory=list)
    old: list[Path] = field(default_factory=list)
    begun: list[Path] = field(default_factory=list)

    def clear(self) -> None:
        """Remove what is not finished."""
        for temporary in self.begun:
            temporary.unlink(missing_ok=True)


@dataclass
class Left:
    """What this process has written so far, and the files of that which the same command, where
    it is interrupted, goes on from."""

    written: dict[Path, None] = field(default_factory=dict)
    kept: dict[Path, None] = field(default_factory=dict)

    def named(self) -> str:
        """What was written and is still there, in words."""
        there = [str(path) for path in self.written if path.exists()]
        more = len(there) - NAMED
        return ", ".join(there[:NAMED]) + (f" and {more} more" if more > 0 else "")

    def clear(self) -> None:
        """Begin anew, with another command."""
        self.written.clear()
        self.kept.clear()

    def __str__(self) -> str:
        """What is there after an interruption, in words."""
        kept = [path for path in self.kept if path.exists()]
        if kept:
            return f"the same command goes on from '{kept[0]}'"
        if self.written:
            named = ", ".join(f"'{path}'" for path in self.written)
            return f"written before that: {named}"
        return "nothing was written"


NAMED = 8  # paths, of what was written
_GROUP: ContextVar[_Group | None] = ContextVar("group", default=None)
APPEARING = threading.Lock()  # held while files get their names: no moment to end the process
LEFT = Left()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Files that `replacing` writes within appear at the end, or, on an error, none of them.

    One `together` within another ends with the outer one.
    """
    if _GROUP.get() is not None:
        yield
        return
    group = _Group()
    token = _GROUP.set(group)
    atexit.register(group.clear)  # for an end that does not unwind
    try:
        yield
        with APPEARING:
            _appear(sorted(group.files, key=lambda file: file.last))
        for path in group.old:
            with contextlib.suppress(OSError):
                path.unlink()
    finally:
        _GROUP.reset(token)
        group.clear()
        atexit.unregister(group.clear)


@contextlib.contextmanager
def replacing(path: Path, last: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it at the end, or goes away on an error.

    Within `together` the end is the end of that. A file that names others is to come `last`: until
    it is there, what was there before still stands, with the files that it names.
    """
    group = _GROUP.get()
    if group is None:
        with together(), replacing(path, last) as temporary:
            yield temporary
        return
    refuse(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    group.begun.append(temporary)
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    group.files.append(_Unfinished(temporary, path, last, is_new=not os.path.lexists(path)))


def write_text(path: Path, text: str) -> None:
    """Write a file of text as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def drop(path: Path) -> None:
    """Let a file go once those are there that are written within the same `together`."""
    with together():
        group = _GROUP.get()
        assert group is not None
        group.old.append(path)


def refuse(path: Path) -> None:
    """Raises OnnxqError for a path that no file can be written to, or that is not one's to take."""
    if path.is_dir():
        raise ModelError(f"'{path}' is a folder; give a file name to write to")
    if not path.parent.is_dir():
        raise ModelError(f"no folder '{path.parent}' to write '{path.name}' to; make it first")
    if _is_special(path):
        raise OnnxqError(f"'{path}' is a device or a pipe, which a file would replace; give a file "
                         "name to write to")  # fmt: skip


def _is_special(path: Path) -> bool:
    """Whether a path is there and is no file: a device, a FIFO, a socket, or a name that the system
    gives to one, such as /dev/stdout, which may lead to a file now."""
    folder = path.parent.resolve()
    if folder == Path("/dev") or folder.is_relative_to("/proc") or folder.is_relative_to("/dev/fd"):
        return True
    return path.exists() and not path.is_file()


def _appear(files: list[_Unfinished]) -> None:
    """Give the files their names, one after another; where one cannot have its own, those before it
    are again what they were."""
    umask = os.umask(0)
    os.umask(umask)
    begun: list[_Unfinished] = []
    try:
        for file in files:
            file.temporary.chmod(0o666 & ~umask)
            begun.append(file)
            if len(files) > 1:
                _keep(file)
            file.temporary.replace(file.path)
    except BaseException:
        for file in reversed(begun):
            _undo(file)
        raise
    else:
        LEFT.written.update(dict.fromkeys(file.path for file in files))
    finally:
        for file in begun:
            file.before.unlink(missing_ok=True)


def _keep(file: _Unfinished) -> None:
    """Give what is at the path a second name, where the file system can."""
    with contextlib.suppress(OSError):
        os.link(file.path, file.before, follow_symlinks=False)


def _undo(file: _Unfinished) -> None:
    """Let the path be what it was before the file took it, if it did."""
    if file.before.is_symlink() or file.before.exists():
        file.before.replace(file.path)
    elif file.is_new and not file.temporary.exists():
        file.path.unlink(missing_ok=True)
