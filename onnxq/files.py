"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from onnxq.errors import ModelError

_FILES: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("files", default=None)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Files that `replacing` writes within appear at the end, or, on an error, none of them."""
    files: list[tuple[Path, Path]] = []
    token = _FILES.set(files)
    try:
        yield
        umask = os.umask(0)
        os.umask(umask)
        for temporary, path in files:
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        _FILES.reset(token)
        for temporary, _ in files:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it at the end, or goes away on an error.

    Within `together` the end is the end of that.
    """
    files = _FILES.get()
    if files is None:
        with together(), replacing(path) as temporary:
            yield temporary
        return
    if path.is_dir():
        raise ModelError(f"'{path}' is a folder; give a file name to write to")
    if not path.parent.is_dir():
        raise ModelError(f"no folder '{path.parent}' to write '{path.name}' to; make it first")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    files.append((temporary, path))
