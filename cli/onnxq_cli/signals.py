"""Signals that end a command: it leaves no temporary file, and says in a line what it can."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Callable

_KEPT: list[Callable[[int], None]] = []  # what C calls must not be collected
PATIENCE = 5  # seconds that leaving may take


def handle_signals() -> None:
    """Unwind where the command is asked to end or its terminal was closed, unless that is ignored
    (nohup); and end with a line where a file that is mapped is cut short."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _leave)
    if hasattr(signal, "SIGBUS") and not _KEPT:
        # Python's own handlers run between two instructions, and the one that read never ends.
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_cut_short)
        _KEPT.append(handler)
        ctypes.CDLL(None).signal(signal.SIGBUS, handler)


def _leave(number: int, _: object) -> None:
    """End by unwinding, so that temporary files go away."""
    sys.exit(128 + number)


def _cut_short(_: int) -> None:
    """Say which file it was, let temporary files go, end: there is nothing to return to."""
    signal.alarm(PATIENCE)  # ends the process if what follows does not
    os.write(2, f"onnxq: {_what_changed()}\n".encode())
    atexit._run_exitfuncs()
    os._exit(2)


def _what_changed() -> str:
    from onnxq.errors import ModelError
    from onnxq.model.mapped import check_all

    try:
        check_all()
    except ModelError as e:
        return str(e)
    return "a file was cut short while it was read; start again"
