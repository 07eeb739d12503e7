"""stdout for results and stderr for everything else, whatever they are connected to."""

from __future__ import annotations

import codecs
import os
import sys
from io import TextIOWrapper

from onnxq.escaping import printable
from onnxq.json_text import escaped


def prepare() -> None:
    """Make streams that take whatever is written to them.

    A closed one drops it, and its number does not go to a file that is opened next; a character
    that its encoding lacks becomes an escape.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    codecs.register_error("onnxq.escaped", _escaped)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # as long as the process
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="onnxq.escaped")


def out(text: str) -> None:
    """Lines of a result, in characters that print."""
    print("\n".join(map(printable, text.split("\n"))))


def err(text: str) -> None:
    """A line for people on stderr, in characters that print; a text of several becomes one."""
    line = " ".join(filter(None, map(str.strip, text.split("\n"))))
    print(printable(line), file=sys.stderr, flush=True)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(escaped, error.object[error.start : error.end])), error.end
