"""Tasks over an executor: what they share is packed once, what they find comes as they end.

A task is `work(job, part)`: a function of a module, a job and a part of it, all of which pickle. It
opens by itself what it needs, so it may run in another thread, process or machine, and again
where a worker was lost.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import time
import zlib
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from onnxq import __version__
from onnxq.cluster import kept
from onnxq.errors import OnnxqError, WorkerError
from onnxq.run import runtime as ort

P = TypeVar("P")
R = TypeVar("R")

THREADS = 8  # of an executor that does not say how many it has
LOOK = 5.0  # seconds between two looks at a cluster that is at work
PATIENCE = 60.0  # seconds that it may be without workers, which nannies start again


@dataclass(frozen=True)
class Job:
    """What all tasks of one verb need to know, packed.

    key: a digest of it. versions: of onnxq and ONNX Runtime, on which results depend.
    """

    packed: bytes
    key: str
    versions: tuple[str, str]

    @staticmethod
    def of(value: object) -> Job:
        """A job that is `value`."""
        packed = zlib.compress(pickle.dumps(value), 1)
        return Job(packed, hashlib.sha256(packed).hexdigest(), _versions())

    def value(self) -> Any:
        """What was packed; unpacked once a process."""
        return kept.shared(self.key, lambda: pickle.loads(zlib.decompress(self.packed)))


def results(
    executor: Executor, work: Callable[[Job, P], R], job: Job, parts: Iterable[P]
) -> Generator[tuple[P, R], None, None]:
    """(part, what `work` found for it), in the order in which tasks end.

    Tasks that have not begun are cancelled when the generator is closed. Raises OnnxqErrors of the
    workers as they are, WorkerError for workers that were lost or have another version.
    """
    futures: dict[Future[R], P] = {}
    try:
        for part in parts:
            futures[submitted(executor, work, job, part)] = part
        while futures:
            for future in _ended(executor, futures):
                yield futures.pop(future), _found(future)
    finally:
        for future in futures:
            future.cancel()


def submitted(executor: Executor, work: Callable[[Job, P], R], job: Job, part: P) -> Future[R]:
    """The task of a part, handed out; raises WorkerError where the executor takes none."""
    try:
        return executor.submit(_done, work, job, part)
    except RuntimeError as e:  # shut down, or broken
        raise WorkerError(f"the executor takes no tasks: {e}") from e


def result_of(executor: Executor, future: Future[R]) -> R:
    """What a task found, once it has; raises as `results`."""
    _ended(executor, [future])
    return _found(future)


def _ended(executor: Executor, futures: Collection[Future[R]]) -> set[Future[R]]:
    """Some of the tasks, as soon as there are any that have ended."""
    seen = time.monotonic()
    while True:
        ended, _ = wait(futures, LOOK, FIRST_COMPLETED)
        if ended:
            return ended
        if _workers(executor) != 0:
            seen = time.monotonic()
        elif time.monotonic() - seen > PATIENCE:
            raise WorkerError(
                f"the cluster has had no workers for {PATIENCE:.0f} seconds; start some and run "
                "this again"
            )


def _found(future: Future[R]) -> R:
    try:
        return future.result()
    except OnnxqError:
        raise
    except (BrokenExecutor, CancelledError) as e:
        raise WorkerError(
            f"workers were lost ({str(e) or type(e).__name__}); see to them and run this again"
        ) from e
    except ImportError as e:
        raise WorkerError(
            f"the workers lack what they need ({e}); install the same onnxq there as here"
        ) from e
    except Exception as e:
        if type(e).__module__.startswith("distributed"):
            raise WorkerError(f"the cluster failed: {' '.join(str(e).split())[:300]}") from e
        raise


def threads_of(executor: Executor) -> int:
    """How many tasks an executor runs at a time, as far as it says."""
    return _workers(executor) or int(getattr(executor, "_max_workers", None) or THREADS)


def _workers(executor: Executor) -> int | None:
    """Threads of the workers that a Dask cluster has now; None for another executor."""
    if not type(executor).__module__.startswith("distributed"):
        return None
    try:
        return int(sum(executor._client.nthreads().values()))  # type: ignore[attr-defined]
    except Exception:  # it has lost its scheduler, as tasks then say by themselves
        return 0


def parts_of(items: Sequence[P], executor: Executor, tasks: int) -> list[Sequence[P]]:
    """The items in order, in parts of like length, none empty: `tasks` for each thread of the
    executor. The more there are, the less is lost with a worker, or at the end waited for."""
    count = min(len(items), tasks * threads_of(executor))
    ends = [len(items) * i // count for i in range(count + 1)] if count else []
    return [items[a:b] for a, b in pairwise(ends)]


def _done(work: Callable[[Job, P], R], job: Job, part: P) -> R:
    """Runs on a worker: the task, unless this process would come to other results."""
    where = f"the worker {socket.gethostname()}, process {os.getpid()}"
    if _versions() != job.versions:
        there, here = (" with ONNX Runtime ".join(pair) for pair in (_versions(), job.versions))
        raise WorkerError(f"{where} has onnxq {there}, and here is {here}; install the same there")
    try:
        with kept.task():
            return work(job, part)
    except OnnxqError as e:
        raise type(e)(f"{e} (on {where})") from e


def _versions() -> tuple[str, str]:
    return __version__, ort.version()
