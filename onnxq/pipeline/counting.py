"""Calibration over an executor: shards of the samples, counted by workers and added up exactly.

Adding up is associative and commutative, so the statistics are those of one process to the bit, for
any split, any order in which shards end and however often one is counted anew after a worker died.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass

from onnxq.calib.checkpoint import Checkpoint
from onnxq.calib.collect import collect, compiled
from onnxq.calib.data import Dataset, digests
from onnxq.calib.stats import Stats, merge
from onnxq.cluster import kept
from onnxq.cluster.tasks import Job, parts_of, results
from onnxq.errors import DataError
from onnxq.pipeline.opening import DataSpec, ModelSpec, opened
from onnxq.pipeline.source import Source
from onnxq.progress import Count
from onnxq.run.runtime import Runtime

TASKS = 4  # a thread


@dataclass(frozen=True)
class Shards:
    """What every shard is counted with; digests: whether those of the samples are asked for."""

    model: ModelSpec
    data: DataSpec
    tensors: tuple[str, ...]
    runtime: Runtime
    digests: bool


def count(
    executor: Executor,
    source: Source,
    tensors: Sequence[str],
    dataset: Dataset,
    runtime: Runtime,
    progress: Count,
    checkpoint: Checkpoint | None = None,
) -> Stats:
    """What `collect` counts on `source.graph`, counted by workers, each task on one thread.

    `progress(done, total)` counts samples. The checkpoint is written when shards come in. Raises
    what `collect` raises, and WorkerError.
    """
    if not len(dataset):
        raise DataError("there are no calibration samples; give at least one")
    missing = list(range(len(dataset))) if checkpoint is None else checkpoint.missing(dataset)
    total = checkpoint.begun if checkpoint else None
    done = checkpoint.done.copy() if checkpoint else Counter[str]()
    shards = Shards(
        ModelSpec.of(source), DataSpec.of(dataset), tuple(tensors), runtime, bool(checkpoint)
    )
    progress(counted := len(dataset) - len(missing), len(dataset))
    parts = parts_of(missing, executor, TASKS)
    with closing(results(executor, _count, Job.of(shards), parts)) as found:
        for part, (stats, digests) in found:
            total = stats if total is None else merge(total, stats)
            done.update(digests)
            counted += len(part)
            progress(counted, len(dataset))
            if checkpoint is not None and checkpoint.due:
                checkpoint.save(total, done)
    assert total is not None  # there are samples: they are in `begun` or were missing
    return total


def _count(job: Job, part: Sequence[int]) -> tuple[Stats, list[str]]:
    """Runs on a worker: the statistics of some samples, and their digests."""
    shards: Shards = job.value()
    source, dataset = opened(shards.model, shards.data)
    samples = dataset.select(part)
    program = kept.shared(
        f"program {job.key}",
        lambda: compiled(source.graph, shards.tensors, dataset, shards.runtime),
    )
    stats = collect(
        source.graph,
        shards.tensors,
        samples,
        model=source.sha256,
        runtime=shards.runtime,
        workers=1,
        program=program,
    )
    return stats, digests(samples) if shards.digests else []
