"""Run a model over calibration data once and count what its tensors hold.

The graph is cut into segments with about a megabyte of observed output each (see `segments`): a
segment runs, its outputs are binned while they are in the cache, and buffers are used again after
the last reader of a tensor. So memory does not grow with the number of samples or of tensors.

Workers take one sample at a time, each run on a single thread. A sample's numbers thus depend
on that sample alone and counts are added exactly: the result is bit-identical for any order of the
samples, any split of them and any number of workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Protocol

from onnxq import runtime as ort
from onnxq.calib.histogram import Accumulator, Array, Histogram, merge
from onnxq.calib.program import BufferMismatch, Program, compile_program, free_steps, planned_steps
from onnxq.calib.stats import NO_DATA, Stats, add_digests, sample_digest
from onnxq.errors import DataError, ModelError
from onnxq.graph import Graph

Progress = Callable[[int, int], None]


class Samples(Protocol):
    """Calibration data: sample `i` is one run's inputs by name, batch axis included."""

    def __len__(self) -> int: ...

    def sample(self, i: int) -> Mapping[str, Array]: ...


def collect(
    graph: Graph,
    tensors: Sequence[str],
    data: Samples,
    *,
    model: str = "",
    runtime: ort.Runtime | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Stats:
    """Statistics of the activation `tensors` of `graph` over all samples of `data`.

    `model` is the hash of the model file that the statistics are for. A tensor that no run of the
    main graph computes, such as one within a branch of an `If`, gets an empty histogram.
    `progress(done, total)` is called from the calling thread. Raises DataError for data that does
    not fit the inputs, ModelError for a model that cannot be run or has no such tensor.
    """
    if not len(data):
        raise DataError("there are no calibration samples; give at least one")
    runtime = runtime or ort.Runtime()
    names = _computed(graph, tensors)
    first = {name: tuple(x.shape) for name, x in data.sample(0).items()}
    program = compile_program(graph, names, runtime, first)
    try:
        crew = _run(program, data, workers, progress)
    except BufferMismatch:
        crew = _run(replace(program, types=None), data, workers, progress)
    merged = {name: _merged(crew, name) for name in dict.fromkeys(tensors)}
    return Stats(model, merged, len(data), add_digests(*(worker.digest for worker in crew)))


def _merged(crew: Sequence[_Worker], name: str) -> Histogram:
    """What all workers counted of a tensor; their counters are given back."""
    return merge(*(worker.counts.pop(name).histogram() for worker in crew if name in worker.counts))


def _computed(graph: Graph, tensors: Sequence[str]) -> list[str]:
    """Those of `tensors` that the main graph computes or is given."""
    main = set(graph.tensors())
    nested = {name for body in graph.subgraphs(recursive=True) for name in body.tensors()}
    for name in tensors:
        if name not in main and name not in nested:
            raise ModelError(f"the graph '{graph.name}' has no tensor '{name}'; check the name")
    return [name for name in dict.fromkeys(tensors) if name in main]


class _Worker:
    """Counts samples, one at a time."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.counts = {name: Accumulator() for name in program.observed}
        self.digest = NO_DATA
        self.free = free_steps(program)
        self.planned = planned_steps(program)

    def observe(self, sample: Mapping[str, Array], stop: threading.Event) -> None:
        """Run `sample` and count it; returns early, having counted in part, on `stop`."""
        live = self.program.checked(sample)
        self._count(live)
        for step in self.planned if self.program.planned_for(live) else self.free:
            if stop.is_set():
                return
            self._count(step(live))
        self.digest = add_digests(self.digest, sample_digest(sample))

    def _count(self, values: Mapping[str, Array]) -> None:
        for name, value in values.items():
            if name in self.counts:
                self.counts[name].observe(value)


def _run(program: Program, data: Samples, workers: int, progress: Progress | None) -> list[_Worker]:
    """Workers that have counted all samples between them."""
    total = len(data)
    crew = [_Worker(program) for _ in range(max(1, min(workers, total)))]
    todo, stop = iter(range(total)), threading.Event()
    events: SimpleQueue[BaseException | None] = SimpleQueue()
    with ThreadPoolExecutor(len(crew), "calibrate") as pool:
        try:
            for worker in crew:
                pool.submit(_work, worker, data, todo, stop, events)
            for done in range(1, total + 1):
                error = events.get()
                if error is not None:
                    raise error
                if progress is not None:
                    progress(done, total)
        finally:
            stop.set()
    return crew


def _work(
    worker: _Worker,
    data: Samples,
    todo: Iterator[int],
    stop: threading.Event,
    events: SimpleQueue[BaseException | None],
) -> None:
    """Take samples until there are none; an event is a sample done, or what went wrong."""
    try:
        while not stop.is_set() and (i := next(todo, None)) is not None:
            worker.observe(data.sample(i), stop)
            events.put(None)
    except BaseException as e:  # surfaces in the calling thread
        events.put(e)
