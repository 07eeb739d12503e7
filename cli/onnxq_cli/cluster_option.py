"""`--dask ADDRESS`: the option becomes an executor, connected while the command runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def dask_option(command: Command) -> Command:
    """Add `--dask`, which a command gets as `executor`."""
    return click.option(
        "--dask", "executor", metavar="ADDRESS", callback=_connected,
        help="Run on the workers of this Dask scheduler, such as tcp://host:8786.",
    )(command)  # fmt: skip


def _connected(ctx: click.Context, _: click.Parameter, address: str | None) -> Executor | None:
    if address is None:
        return None
    from onnxq.cluster.dask import connected

    return ctx.with_resource(connected(address))
