"""Run a model over calibration data once and count what its tensors hold.

The graph is cut into segments with about a megabyte of observed output each (see `segments`): a
segment runs, its outputs are binned while they are in the cache, and buffers are used again after
the last reader of a tensor. So memory does not grow with the number of samples or of tensors.

Workers take one sample at a time, each run on a single thread. A sample's numbers thus depend
on that sample alone and counts are added exactly: the result is bit-identical for any order of the
samples, any split of them and any number of workers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from onnxq.arrays import Samples
from onnxq.calib.checkpoint import Checkpoint
from onnxq.calib.crew import Task, Worker, run_crew
from onnxq.calib.stats import Stats
from onnxq.calib.ways import compile_counting
from onnxq.errors import DataError, ModelError
from onnxq.model.graph import Graph
from onnxq.progress import Count
from onnxq.run import runtime as ort
from onnxq.run.program import Program, as_it_runs

log = logging.getLogger(__name__)


def collect(
    graph: Graph,
    tensors: Sequence[str],
    data: Samples,
    *,
    model: str = "",
    runtime: ort.Runtime | None = None,
    workers: int = 2,
    progress: Count | None = None,
    checkpoint: Checkpoint | None = None,
    program: Program | None = None,
) -> Stats:
    """Statistics of the activation `tensors` of `graph` over all samples of `data`.

    `model` is the hash of the model file that the statistics are for. A tensor that no run of the
    main graph computes, such as one within a branch of an `If`, gets an empty histogram.
    `progress(done, total)` is called from the calling thread. With a `checkpoint`, what an earlier
    run counted is not counted again, and what is counted is written now and then. `program` is one
    that `compiled` made for the same graph and tensors. Raises DataError for data that does not fit
    the inputs, ModelError for a model that cannot be run or has no such tensor.
    """
    program = program or compiled(graph, tensors, _some(data), runtime)
    task = Task(_some(data), checkpoint, progress, model, tuple(dict.fromkeys(tensors)))
    return _counted([task], program, workers)[0]


def collect_parts(
    graph: Graph,
    tensors: Sequence[str],
    data: Samples,
    parts: Sequence[Samples],
    *,
    model: str = "",
    runtime: ort.Runtime | None = None,
    workers: int = 2,
    progress: Count | None = None,
) -> list[Stats]:
    """Statistics of each of `parts`, which `data` falls into: they add up to those that `collect`
    has of `data`, to the bit. Raises as `collect` does."""
    program = compiled(graph, tensors, _some(data), runtime)
    names, tasks, before = tuple(dict.fromkeys(tensors)), list[Task](), 0
    for part in parts:
        tick = partial(_further, progress, before, len(data)) if progress else None
        tasks.append(Task(_some(part), None, tick, model, names))
        before += len(part)
    return _counted(tasks, program, workers)


def _some(data: Samples) -> Samples:
    if not len(data):
        raise DataError("there are no calibration samples; give at least one")
    return data


def _further(progress: Count, before: int, total: int, done: int, _: int) -> None:
    """`done` of a part, as progress of the whole."""
    progress(before + done, total)


def _counted(tasks: Sequence[Task], program: Program, workers: int) -> list[Stats]:
    """What each task counts, all by one program: by a slower one where one of them needs it."""
    return as_it_runs(program, lambda now: _by_one_crew(tasks, now, workers))


def compiled(
    graph: Graph, tensors: Sequence[str], data: Samples, runtime: ort.Runtime | None = None
) -> Program:
    """What `collect` runs, for those who collect more than once from the same graph."""
    names = _computed(graph, tensors)
    program = compile_counting(graph, names, runtime or ort.Runtime(), data.sample(0))
    ort.release_free_memory()  # what it was compared with
    return program


def _by_one_crew(tasks: Sequence[Task], program: Program, workers: int) -> list[Stats]:
    hired: list[Worker] = []
    found = []
    for i, task in enumerate(tasks):
        crew = run_crew(program, task, workers, hired)
        for worker in hired:
            worker.last = i + 1 == len(tasks)
        found.append(task.stats(crew, final=True))
    return found


def _computed(graph: Graph, tensors: Sequence[str]) -> list[str]:
    """Those of `tensors` that the main graph computes or is given."""
    main = set(graph.tensors())
    nested = {name for body in graph.subgraphs(recursive=True) for name in body.tensors()}
    for name in tensors:
        if name not in main and name not in nested:
            raise ModelError(f"the graph '{graph.name}' has no tensor '{name}'; check the name")
    return [name for name in dict.fromkeys(tensors) if name in main]
