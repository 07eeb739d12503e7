"""Signals that end a command: it leaves no temporary file, and says in a line what it can.

An interrupt unwinds, as an error does. Python gets to that between two of its instructions alone,
and a pool waits for what its threads have begun; so what has not ended after `GRACE` is ended.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from onnxq.files import APPEARING, LEFT

_KEPT: list[Callable[[int], None]] = []  # what C calls must not be collected
PATIENCE = 5  # seconds that leaving may take
INTERRUPTED = 130  # the exit code of Ctrl-C
GRACE = 1.5  # seconds that unwinding may take
SHOW_CURSOR = "\r\x1b[J\x1b[?25h"  # and clear what stands behind it


def handle_signals() -> None:
    """Unwind where the command is asked to end or its terminal was closed, unless that is ignored
    (nohup); and end with a line where a file that is mapped is cut short."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _leave)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    if os.name == "posix":
        _watch()
    if hasattr(signal, "SIGBUS") and not _KEPT:
        # Python's own handlers run between two instructions, and the one that read never ends.
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_cut_short)
        _KEPT.append(handler)
        ctypes.CDLL(None).signal(signal.SIGBUS, handler)


def _leave(number: int, _: object) -> None:
    """End by unwinding, so that temporary files go away."""
    sys.exit(128 + number)


def _interrupt(_: int, __: object) -> None:
    """Unwind, once: the next Ctrl-C must not meet what the first one has begun to clear away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.unraisablehook = lambda _: None  # where it comes up in a finalizer, which drops it
    raise KeyboardInterrupt


def _watch() -> None:
    """Let a thread know of signals as they come in, whatever the main one is busy with."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(read,), name="signals", daemon=True).start()


def _wait(read: int) -> None:
    """End the process where it has not ended by itself some time after it was told to."""
    asked = 0
    while asked not in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asked = os.read(read, 1)[0]
    time.sleep(GRACE)
    end(128 + asked, f"interrupted; {LEFT}" if 128 + asked == INTERRUPTED else "")


def end(code: int, said: str = "") -> None:
    """End the process without unwinding: temporary files go, and a line is said, if there is one.

    Not in the midst of giving files their names, which is over at once.
    """
    APPEARING.acquire(timeout=PATIENCE)
    if said:
        if os.isatty(2):
            os.write(2, SHOW_CURSOR.encode())
        os.write(2, f"onnxq: {said}\n".encode())
    clearing = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
    clearing.start()
    clearing.join(GRACE)
    os._exit(code)


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
