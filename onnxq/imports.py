"""Modules of the user's: ops, metrics and data that a command line names."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from onnxq.errors import OnnxqError

LIBRARIES = tuple(f"{folder}{os.sep}" for folder in {
    str(Path(__file__).resolve().parent),
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(traceback.__file__).parent),
})  # fmt: skip


def module_of(name: str) -> ModuleType:
    """The module that an importable name or a .py file names; raises whatever importing it raises.

    A name is looked for in the current folder and on the Python path. A file is run at each call.
    """
    sys.path.insert(0, "")
    importlib.invalidate_caches()  # a file that was just written may not be in them
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded
    finally:
        sys.path.remove("")


def attribute_of(text: str) -> Any:
    """What `module:name` names; raises as `module_of`, and AttributeError where it has no such."""
    module, _, name = text.partition(":")
    return getattr(module_of(module), name)


@contextmanager
def users_code(failing: str, error: type[OnnxqError], advice: str = "") -> Iterator[None]:
    """Within it code of the user's runs: what it prints goes to stderr, and whatever it raises
    becomes an `error` of one line: `failing`, what and where in that code it was, `advice`."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (OnnxqError, MemoryError):
        raise
    except (Exception, SystemExit) as e:  # it may raise anything
        said = f" ({fault(e)}){advice}" if advice else f": {fault(e)}"
        raise error(f"{failing}{said}") from e


def fault(e: BaseException) -> str:
    """An exception of the user's code in one line: its type, what it says, and the last place in
    that code which it went through."""
    said = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
    said = str(e) if isinstance(e, ImportError) else said
    frames = [f for f in traceback.extract_tb(e.__traceback__) if _is_users(f.filename)]
    if not frames:
        return said
    last = frames[-1]
    return f"{said}, at {Path(last.filename).name}:{last.lineno} in {last.name}"


def _is_users(file: str) -> bool:
    """Whether a file is neither onnxq's, nor Python's, nor of an installed package."""
    return not file.startswith("<") and not str(Path(file).resolve()).startswith(LIBRARIES)
