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
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from onnxq import __version__
from onnxq import runtime as ort
from onnxq.cluster import kept
from onnxq.errors import OnnxqError, WorkerError

P = TypeVar("P")
R = TypeVar("R")

TASKS_A_THREAD = 4  # enough to keep threads of unlike speed busy to the end
THREADS = 8  # of an executor that does not say how many it has


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
) -> Iterator[tuple[P, R]]:
    """(part, what `work` found for it), in the order in which tasks end.

    Tasks that have not begun are cancelled when the iterator is left. Raises OnnxqErrors of the
    workers as they are, WorkerError for workers that were lost or have another version.
    """
    futures: dict[Future[R], P] = {}
    try:
        for part in parts:
            futures[submitted(executor, work, job, part)] = part
        for future in as_completed(futures):
            yield futures.pop(future), result_of(future)
    finally:
        for future in futures:
            future.cancel()


def submitted(executor: Executor, work: Callable[[Job, P], R], job: Job, part: P) -> Future[R]:
    """The task of a part, handed out; raises WorkerError where the executor takes none."""
    try:
        return executor.submit(_done, work, job, part)
    except RuntimeError as e:  # shut down, or broken
        raise WorkerError(f"the executor takes no tasks: {e}") from e


def result_of(future: Future[R]) -> R:
    """What a task found; raises as `results`."""
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
    client = getattr(executor, "_client", None)  # of a Dask executor
    if client is not None:
        return max(1, int(sum(client.nthreads().values())))
    return int(getattr(executor, "_max_workers", None) or THREADS)


def parts_of(items: Sequence[P], executor: Executor) -> list[Sequence[P]]:
    """The items in order, in as many parts of like length as suit the executor, none empty."""
    count = min(len(items), TASKS_A_THREAD * threads_of(executor))
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
