"""Run a model over calibration data once and count what its tensors hold.

The graph is cut into segments with about a megabyte of observed output each (see `segments`): a
segment runs, its outputs are binned while they are in the cache, boundaries are dropped after their
last use. So memory does not grow with the number of samples or of observed tensors.

Workers take one sample at a time, each run on a single thread. A sample's numbers thus depend
on that sample alone and counts are added exactly: the result is bit-identical for any order of the
samples, any split of them and any number of workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from onnxq import graph as graphs
from onnxq import runtime as ort
from onnxq import segments
from onnxq.calib import histogram
from onnxq.calib.histogram import Accumulator, Array
from onnxq.calib.stats import NO_DATA, Stats, add_digests, sample_digest
from onnxq.errors import DataError, ModelError
from onnxq.graph import Graph

Shapes = Mapping[str, tuple[int, ...]]


class Samples(Protocol):
    """Calibration data: sample `i` is one run's inputs by name, batch axis included."""

    def __len__(self) -> int: ...

    def sample(self, i: int) -> Mapping[str, Array]: ...


class _ShapesVary(Exception):
    """A sample has other shapes than the program was made for."""


@dataclass(frozen=True)
class _Step:
    """One segment, ready to run."""

    session: ort.Session
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...]


@dataclass(frozen=True)
class _Program:
    """Steps to run in order. shapes: of the inputs, None where samples may differ in shape."""

    steps: tuple[_Step, ...]
    inputs: tuple[str, ...]
    observed: tuple[str, ...]
    shapes: Shapes | None


def collect(
    graph: Graph,
    tensors: Sequence[str],
    data: Samples,
    *,
    model: str = "",
    runtime: ort.Runtime | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
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
    names = tuple(dict.fromkeys(tensors))
    first = {name: tuple(x.shape) for name, x in data.sample(0).items()}
    try:
        program = _program(graph, names, runtime, first)
        return _run(program, names, data, model, workers, progress)
    except _ShapesVary:
        program = _program(graph, names, runtime, None)
        return _run(program, names, data, model, workers, progress)


def _program(
    graph: Graph, names: Sequence[str], runtime: ort.Runtime, shapes: Shapes | None
) -> _Program:
    main = {t.name for node in graph.nodes for t in node.outputs} | {t.name for t in graph.inputs}
    everywhere = _all_tensors(graph)
    for name in names:
        if name not in main and name not in everywhere:
            raise ModelError(f"the graph '{graph.name}' has no tensor '{name}'; check the name")
    inputs = {t.name for t in graph.inputs}
    observed = tuple(name for name in names if name in main)
    special = segments.specialize(graph, [n for n in observed if n not in inputs], shapes)
    steps = []
    for segment in segments.cut(special, set(observed)):
        proto = graphs.to_proto(segments.subgraph(special, segment))
        session = ort.session(proto, runtime, threads=1)
        steps.append(_Step(session, segment.inputs, segment.outputs, segment.dead))
    return _Program(tuple(steps), tuple(inputs), observed, shapes)


def _all_tensors(graph: Graph) -> set[str]:
    """Names of all tensors, those of nested subgraphs included."""
    found = set(graph.tensors())
    for body in graph.subgraphs(recursive=True):
        found |= set(body.tensors())
    return found


class _Worker:
    """Counts samples, one at a time."""

    def __init__(self, program: _Program) -> None:
        self.program = program
        self.counts = {name: Accumulator() for name in program.observed}
        self.digest = NO_DATA

    def observe(self, sample: Mapping[str, Array], stop: threading.Event) -> None:
        program = self.program
        if program.shapes is not None and any(
            tuple(sample[n].shape) != program.shapes[n] for n in sample
        ):
            raise _ShapesVary
        live = dict(sample)
        for name in self.counts.keys() & live.keys():
            self.counts[name].observe(live[name])
        for step in program.steps:
            if stop.is_set():
                return
            values = ort.run(step.session, step.outputs, {name: live[name] for name in step.inputs})
            live.update(zip(step.outputs, values, strict=True))
            for name in step.outputs:
                if name in self.counts:
                    self.counts[name].observe(live[name])
            for name in step.dead:
                del live[name]
        self.digest = add_digests(self.digest, sample_digest(sample))


def _run(
    program: _Program,
    names: Sequence[str],
    data: Samples,
    model: str,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Stats:
    total = len(data)
    crew = [_Worker(program) for _ in range(max(1, min(workers, total)))]
    todo = iter(range(total))
    stop = threading.Event()
    events: SimpleQueue[BaseException | None] = SimpleQueue()
    lock = threading.Lock()

    def work(worker: _Worker) -> None:
        try:
            while not stop.is_set():
                with lock:
                    i = next(todo, None)
                if i is None:
                    return
                worker.observe(data.sample(i), stop)
                events.put(None)
        except BaseException as e:
            events.put(e)

    with ThreadPoolExecutor(len(crew), "calibrate") as pool:
        try:
            for worker in crew:
                pool.submit(work, worker)
            for done in range(1, total + 1):
                error = events.get()
                if error is not None:
                    raise error
                if progress is not None:
                    progress(done, total)
        finally:
            stop.set()
    none = histogram.EMPTY
    counts = [{n: a.histogram() for n, a in worker.counts.items()} for worker in crew]
    merged = {n: histogram.merge(*(c.get(n, none) for c in counts)) for n in names}
    return Stats(model, merged, total, add_digests(*(w.digest for w in crew)))
