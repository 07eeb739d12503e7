"""Modules of the user's: ops, metrics and data that a command line names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


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
