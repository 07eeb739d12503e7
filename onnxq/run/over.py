"""A model over samples: opened once, fed sample by sample, read in the order of the samples.

`loaded` opens a whole model, `opened` one segment of a graph; `each`, `stream` and `in_order` say
how samples go through them: side by side, one after the other, or as many at a time as may be
under way. What is read comes in the order of the samples, so no result depends on the workers.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from onnxq.arrays import Array, Sample, Samples
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.progress import stage, steps
from onnxq.run import runtime as ort
from onnxq.run import segments
from onnxq.run.closed_loop import ClosedLoop, feeds_back
from onnxq.run.segments import Segment

Outputs = Mapping[str, Array]
SIDE_BY_SIDE = 4  # samples of a whole model at a time, at most: each takes the memory of a run
T = TypeVar("T")


@dataclass(frozen=True)
class Loaded:
    """A model that runs: a sample -> its outputs by name.

    inputs: what it is fed, of what a sample has. halves: those in FP16, which float32 samples are
    rounded to. at_once: how many samples `stream` runs side by side.
    """

    session: ort.Session
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    halves: frozenset[str]
    at_once: int = 1

    def __call__(self, sample: Sample) -> dict[str, Array]:
        return self.run(self.feed(sample))

    def feed(self, sample: Sample) -> dict[str, Array]:
        """What the model reads of a sample, contiguous and in its types."""
        return {
            name: np.asarray(sample[name], np.float16 if name in self.halves else None, order="C")
            for name in self.inputs
            if name in sample
        }

    def run(self, feed: Sample) -> dict[str, Array]:
        """The outputs for what `feed` gave."""
        return dict(zip(self.outputs, ort.run(self.session, self.outputs, feed), strict=True))


def loaded(
    model: ort.Model,
    runtime: ort.Runtime | None = None,
    threads: int = 0,
    outputs: Sequence[str] | None = None,
    optimize: str = "all",
) -> Loaded:
    """A model, ready to run; it writes `outputs`, or all that it has.

    `threads` within one run are as for `runtime.session`, which says what is raised.
    """
    with stage("open"):
        session = ort.session(model, runtime, threads, optimize)
    written = tuple(o.name for o in session.get_outputs()) if outputs is None else tuple(outputs)
    types = {i.name: i.type for i in session.get_inputs()}
    halves = frozenset(name for name, kind in types.items() if kind == "tensor(float16)")
    return Loaded(session, written, tuple(types), halves)


def each(
    model: ort.Model,
    samples: Samples,
    read: Callable[[int, Outputs], T],
    runtime: ort.Runtime | None = None,
    workers: int = 2,
) -> list[T]:
    """What `read(i, outputs)` makes of each sample, `workers` side by side with a thread each."""
    run = loaded(model, runtime, threads=1)

    def one(i: int) -> T:
        return read(i, run(samples.sample(i)))

    with ThreadPoolExecutor(workers, "samples") as pool:
        count = len(samples)
        return list(steps("samples", pool.map(one, range(count)), count))


def stream(
    model: ort.Model | Loaded,
    samples: Iterable[Sample],
    tick: Callable[[], None] = lambda: None,
    runtime: ort.Runtime | None = None,
) -> Iterator[dict[str, Array]]:
    """The outputs of a model for the samples, in their order; `tick` after each.

    Cores take samples of their own, a thread each, which is faster than to share a sample. Where
    the samples are of sequences, the model is fed back its own outputs.
    """
    run = model if isinstance(model, Loaded) else to_stream(model, runtime, samples=samples)
    if feeds_back(samples):
        loop = ClosedLoop(run, samples)
        for i in range(len(samples)):
            yield loop(i, samples.sample(i))
            tick()
        return
    with ThreadPoolExecutor(run.at_once, "samples") as pool:
        for values in in_order(pool, (partial(run, s) for s in samples), run.at_once - 1):
            yield values
            tick()


def to_stream(
    model: ort.Model,
    runtime: ort.Runtime | None = None,
    optimize: str = "all",
    samples: Iterable[Sample] = (),
) -> Loaded:
    """A model, ready for `stream`: on the CPU for several samples at a time, unless they follow one
    another."""
    if ort.resolved((runtime or ort.Runtime()).provider) != "cpu" or feeds_back(samples):
        return loaded(model, runtime, optimize=optimize)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    at_once = max(1, min(cores or 1, SIDE_BY_SIDE))
    run = loaded(model, runtime, (cores or 1) // at_once, optimize=optimize)
    return replace(run, at_once=at_once)


def in_order(pool: Executor, jobs: Iterable[Callable[[], T]], ahead: int) -> Iterator[T]:
    """Results of the jobs in their order, `ahead` of them under way."""
    pending: deque[Future[T]] = deque()
    for job in jobs:
        pending.append(pool.submit(job))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def opened(
    graph: Graph,
    segment: Segment,
    runtime: ort.Runtime,
    optimize: str = "all",
    change: Callable[[Graph], Graph] = lambda part: part,
) -> ort.Session:
    """A session of one segment of `graph`, on one thread; `change` makes of it what is to run."""
    part = change(segments.subgraph(graph, segment))
    return ort.session(graphs.to_proto(part), runtime, threads=1, optimize=optimize)


def written(
    segment: Segment,
    session: ort.Session,
    live: Mapping[str, Array],
    outputs: Collection[str] | None = None,
) -> dict[str, Array]:
    """What a segment writes from live tensors: all its outputs, or those of `outputs`."""
    names = [name for name in segment.outputs if outputs is None or name in outputs]
    feed = {name: live[name] for name in segment.inputs}
    return dict(zip(names, ort.run(session, names, feed), strict=True))
