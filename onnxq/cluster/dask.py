"""A running Dask cluster as an executor: the only module that imports it, inside functions.

pip install "onnxq[dask]"
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from onnxq.errors import RuntimeMissing, WorkerError

SECONDS = 3.0  # until a scheduler that does not answer is given up
LOGGERS = ("distributed", "distributed.client", "distributed.core", "tornado.application")


@contextmanager
def connected(address: str, seconds: float = SECONDS) -> Iterator[Executor]:
    """An executor over the workers of the scheduler at `address`, such as "tcp://host:8786".

    `seconds` is how long to wait for the scheduler, and again for a worker. Raises RuntimeMissing
    where Dask is not installed, WorkerError where there is no scheduler or it has no workers.
    """
    try:
        import distributed
    except ImportError as e:
        raise RuntimeMissing(
            'a Dask cluster needs dask.distributed; pip install "onnxq[dask]"'
        ) from e
    with _quiet():
        client = _client(distributed, address, seconds)
        try:
            _await_a_worker(client, address, seconds)
            yield client.get_executor(pure=False)
        finally:
            client.close(timeout=SECONDS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it Dask logs nothing: what fails is said once, by us."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _client(distributed: Any, address: str, seconds: float) -> Any:
    """Its client; raises WorkerError unless a Dask scheduler answers."""
    try:
        # first without a Client: one that reaches nothing says so again when it goes away
        asyncio.run(_reach(distributed, address, seconds))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions: tasks check those that matter
            return distributed.Client(address, timeout=seconds, set_as_default=False)
    except Exception as e:  # what answers in another protocol can end in any of them
        known = isinstance(e, OSError | ValueError) and str(e)
        why = " ".join(str(e).split())[:120] if known else "what is there is something else"
        raise WorkerError(
            f"no Dask scheduler answers at '{address}' ({why}); start one with 'dask scheduler' "
            "and give the address that it prints"
        ) from e


async def _reach(distributed: Any, address: str, seconds: float) -> None:
    arguments = distributed.Security().get_connection_args("client")
    comm = await distributed.comm.connect(address, timeout=seconds, **arguments)
    await comm.close()


def _await_a_worker(client: Any, address: str, seconds: float) -> None:
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as e:
        raise WorkerError(
            f"the Dask scheduler at '{address}' has no workers; start some with 'dask worker "
            f"{address}'"
        ) from e
