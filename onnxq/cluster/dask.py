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

from onnxq.errors import RuntimeMissing, WorkerError

SECONDS = 3.0


@contextmanager
def connected(address: str, seconds: float = SECONDS) -> Iterator[Executor]:
    """An executor over the workers of the scheduler at `address`, such as "tcp://host:8786".

    `seconds` is how long to wait for the scheduler, and again for a worker. Raises RuntimeMissing
    where Dask is not installed, WorkerError where there is no scheduler or it
    has no workers.
    """
    try:
        from distributed import Client
    except ImportError as e:
        raise RuntimeMissing(
            'a Dask cluster needs dask.distributed; pip install "onnxq[dask]"'
        ) from e
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what fails is said once, by us
    asyncio.run(
        _reach(address, seconds)
    )  # a Client that reaches nothing says so again when it goes away
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions: tasks check those that matter
            client = Client(address, timeout=seconds, set_as_default=False)
    except Exception as e:
        raise _unreached(address, e) from e
    try:
        try:
            client.wait_for_workers(1, timeout=seconds)
        except TimeoutError as e:
            raise WorkerError(
                f"the Dask scheduler at '{address}' has no workers; start some with "
                f"'dask worker {address}'"
            ) from e
        yield client.get_executor(pure=False)
    finally:
        client.close(timeout=SECONDS)


async def _reach(address: str, seconds: float) -> None:
    """Raises WorkerError unless a Dask scheduler answers."""
    from distributed.comm import connect
    from distributed.security import Security

    try:
        arguments = Security().get_connection_args("client")
        comm = await connect(address, timeout=seconds, **arguments)
        await comm.close()
    except Exception as e:  # what answers in another protocol can end in any of them
        raise _unreached(address, e) from e


def _unreached(address: str, error: Exception) -> WorkerError:
    known = isinstance(error, OSError | ValueError) and str(error)
    why = " ".join(str(error).split())[:120] if known else "what is there is something else"
    return WorkerError(
        f"no Dask scheduler answers at '{address}' ({why}); start one with 'dask scheduler' and "
        "give the address that it prints"
    )
