"""A graph compiled to segments that ONNX Runtime runs in order.

Sessions are shared by all workers. For inputs with the shapes of the first sample, a worker's
boundaries live in buffers that are planned once (a buffer serves again after the last reader of its
tensor) and that ONNX Runtime reads and writes in place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TypeVar

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import DataError, ModelError
from onnxq.model.graph import Graph, is_custom
from onnxq.progress import steps
from onnxq.run import on_device, over, segments
from onnxq.run import runtime as ort
from onnxq.run.lanes import Lanes, Types
from onnxq.run.segments import Segment

Live = dict[str, Array]
Step = Callable[[Live], Live]

T = TypeVar("T")
log = logging.getLogger(__name__)
# domains of ONNX Runtime's own ops
OWN = ("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc", "ai.onnx.ml")


class BufferMismatch(Exception):
    """ONNX Runtime refused the planned buffers: shapes depend on more than those of the inputs."""


@dataclass(frozen=True)
class Program:
    """Segments with their sessions, in order.

    inputs: names of the graph's inputs.
    place: observed tensor -> the tensor, of a segment or an input, that holds its values; in the
        order of the graph, or in another one for a program that `ways` made.
    shapes, types: of the inputs, and of every boundary that follows from them; empty where that is
        not known or depends on more.
    counters: what counts tensors on the device, where they stay; None on the CPU.
    slower: makes what runs instead where this cannot run a sample; None for the plain way.
    """

    segments: tuple[tuple[Segment, ort.Session], ...]
    inputs: tuple[str, ...]
    place: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    types: Types = field(default_factory=dict)
    counters: object | None = None
    slower: Callable[[], Program] | None = None

    def checked(self, sample: Mapping[str, Array]) -> Live:
        """The inputs of one run, contiguous; raises DataError where one is missing."""
        for name in self.inputs:
            if name not in sample:
                raise DataError(
                    f"a sample has no input '{name}', it has {sorted(sample)}; "
                    f"the model's inputs are {sorted(self.inputs)}"
                )
        return {name: np.asarray(sample[name], order="C") for name in self.inputs}


def as_it_runs(program: Program, run: Callable[[Program], T]) -> T:
    """What `run` makes of a program; of a plainer one, from the beginning, where that cannot run a
    sample: without planned buffers, or in a slower way."""
    while True:
        try:
            return run(program)
        except BufferMismatch:
            program = replace(program, types={})
        except ModelError as e:
            if program.slower is None:
                raise
            log.info("calibration begins anew in a slower way: %s", e)
            program = program.slower()


def compile_program(
    graph: Graph, observed: Sequence[str], runtime: ort.Runtime, segment_bytes: int = 0
) -> Program:
    """The program that computes `observed`, in segments or, where those cannot be built, in one
    session. Neither depends on any data, so that no result depends on what else is computed."""
    part = wanted(graph, observed)
    try:
        order = segments.cut(part, set(observed), segment_bytes)
        return built(part, order, runtime, "all", itself(observed))
    except Exception as e:  # of foreign libraries, about a graph that may be fine as a whole
        log.info("calibration in segments is not possible (%s); the whole graph runs at once", e)
        return compile_whole(graph, observed, runtime)


def compile_whole(graph: Graph, observed: Sequence[str], runtime: ort.Runtime) -> Program:
    """The program that computes `observed` in one session, which believes no shape in the graph.

    The plain way: it takes the memory of all observed tensors, and assumes nothing.
    """
    part = wanted(graph, observed)
    for tensor in (t for node in part.nodes for t in node.outputs):
        tensor.shape = None
    order = segments.cut_at(part, [len(part.nodes)] if part.nodes else [], set(observed))
    return built(part, order, runtime, "all", itself(observed))


def wanted(graph: Graph, observed: Sequence[str]) -> Graph:
    """The part of the graph that computes `observed`; all inputs stay."""
    inputs = {t.name for t in graph.inputs}
    return segments.restrict(graph, [name for name in observed if name not in inputs])


def itself(observed: Sequence[str]) -> dict[str, str]:
    """The place of observed tensors that are computed under their own names."""
    return {name: name for name in observed}


def built(
    part: Graph,
    order: Sequence[Segment],
    runtime: ort.Runtime,
    optimize: str,
    place: Mapping[str, str],
) -> Program:
    """The program of segments of `part`, which says where each observed tensor is found."""
    pairs = []
    for segment in steps("sessions", order, len(order)):
        pairs.append((segment, over.opened(part, segment, runtime, optimize)))
    ort.release_free_memory()
    return Program(tuple(pairs), tuple(t.name for t in part.inputs), place)


def free_steps(program: Program) -> list[Step]:
    """What is called in turn on live tensors; each returns what its segment wrote."""
    return [_unbound(segment, session) for segment, session in program.segments]


def planned(
    sample: Mapping[str, Array],
    program: Program,
    look: Callable[[Live], None] = lambda values: None,
) -> Program:
    """The program with the types that a run of `sample` shows, which `look` sees as it goes."""
    live, types = program.checked(sample), {}
    shapes = {name: x.shape for name, x in live.items()}
    for step in free_steps(program):
        values = step(live)
        look(values)
        types.update({name: (x.dtype, x.shape) for name, x in values.items()})
    ort.release_free_memory()  # what this one run allocated, the buffers will do without
    if not all(prod(shape) for _, shape in types.values()):
        return program
    if any(_is_foreign(segment) for segment, _ in program.segments):
        return program
    return replace(program, shapes=shapes, types=types)


def _is_foreign(segment: Segment) -> bool:
    """Whether an op of a user's library writes what leaves the segment. One that finds another
    length than there is room for may end the process; ONNX Runtime's own raise an error."""
    foreign = (n for n in segment.nodes if is_custom(n) and n.domain not in OWN)
    return any(t.name in segment.outputs for node in foreign for t in node.outputs)


class Runner:
    """Runs a program for one worker."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._free = on_device.steps(program.segments) if program.counters else free_steps(program)
        order = [segment for segment, _ in program.segments] if program.types else []
        buffers = _planned(order, program.types)
        self._planned = [
            _bound(segment, session, buffers) for segment, session in program.segments if buffers
        ]

        self._lanes: Lanes | None = None

    def run_block(self, block: Live, count: int) -> Iterator[Live]:
        """What each segment in turn writes for `count` samples that lie one behind the other: for
        one sample, or for several where they are small; it holds until the next one.

        Raises BufferMismatch as `run`.
        """
        if count > 1 and self._planned and self.program.shapes == _shapes(block):
            self._lanes = self._lanes or Lanes(self.program.segments, self.program.types, block)
            if self._lanes.fit(block):
                try:
                    yield from self._lanes.run(block, count)
                except ModelError as e:
                    raise BufferMismatch from e
                return
        for j in range(count):
            yield from self.run({name: x[j, ...] for name, x in block.items()})

    def run(self, live: Live) -> Iterator[Live]:
        """What each segment in turn writes, from the inputs `live`; it holds until the next one.

        Raises BufferMismatch where the planned buffers do not fit.
        """
        planned = self._planned and self.program.shapes == {n: x.shape for n, x in live.items()}
        yield from (step(live) for step in (self._planned if planned else self._free))


def _shapes(block: Live) -> dict[str, tuple[int, ...]]:
    return {name: x.shape[1:] for name, x in block.items()}


def _unbound(segment: Segment, session: ort.Session) -> Step:
    return lambda live: segment.advance(live, lambda feeds: over.written(segment, session, feeds))


def _bound(segment: Segment, session: ort.Session, buffers: Mapping[str, Array]) -> Step:
    binding = ort.bind(session, buffers, segment.outputs)
    fed = [name for name in segment.inputs if name not in buffers]
    values = {name: buffers[name] for name in segment.outputs}

    def step(live: Live) -> Live:
        for name in fed:
            ort.bind_input(binding, name, live[name])
        try:
            ort.run_bound(session, binding)
        except ModelError as e:
            raise BufferMismatch from e  # or a real error, which a free run then shows
        return values

    return step


def _planned(order: Sequence[Segment], types: Types) -> dict[str, Array]:
    """An array for every boundary; those that are not alive together share memory."""
    free: list[Array] = []
    used: dict[str, Array] = {}
    arrays: dict[str, Array] = {}
    for segment in order:
        for name in segment.outputs:
            dtype, shape = types[name]
            size = prod(shape) * dtype.itemsize
            fitting = [i for i, block in enumerate(free) if block.nbytes >= size]
            best = min(fitting, key=lambda i: free[i].nbytes, default=None)
            used[name] = np.empty(size, np.uint8) if best is None else free.pop(best)
            arrays[name] = used[name][:size].view(dtype).reshape(shape)
        free += [used.pop(name) for name in segment.dead if name in used]
    return arrays
