"""`-v` and `-q`, before or after the command's name: what goes to stderr beside the results.

-q   errors alone: no progress, no warnings
     warnings and, on a terminal, progress
-v   how long each stage took, and what the passes left alone and why
-vv  every pass with its number of rewrites, and the traceback of an error
"""

from __future__ import annotations

import logging

import click

from onnxq_cli import streams

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
VERBOSE = "Stage times and what was left alone too (-vv: every pass, tracebacks)."
QUIET = "Errors alone on stderr: no progress, no warnings."

log = logging.getLogger("onnxq")


def add_verbosity(command: click.Command) -> None:
    """Give a command, and those within it, `-v` and `-q`, unless it has them."""
    if isinstance(command, click.Group) and type(command) is click.Group:
        for inner in command.commands.values():
            add_verbosity(inner)
    if any(param.name == "verbose" for param in command.params):
        return
    command.params += [
        click.Option(["-v", "--verbose"], count=True, default=None,
                     expose_value=False, callback=_louder, help=VERBOSE),
        click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_quieter,
                     help=QUIET),
    ]  # fmt: skip


def listen() -> None:
    """Print what is logged to stderr, warnings and worse until an option says otherwise."""
    log.setLevel(logging.WARNING)
    if not any(isinstance(handler, _Stderr) for handler in log.handlers):
        log.addHandler(_Stderr())


def is_quiet() -> bool:
    """Whether `-q` was given."""
    return log.level >= logging.ERROR


def _louder(_: click.Context, __: click.Parameter, count: int | None) -> None:
    if count:
        log.setLevel(LEVELS[min(count, 2)])


def _quieter(_: click.Context, __: click.Parameter, given: bool) -> None:
    if given:
        log.setLevel(logging.ERROR)


class _Stderr(logging.Handler):
    """Writes a line to stderr as it is now, so that it goes above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        streams.err(f"onnxq: {record.levelname.lower()}: {record.getMessage()}")
