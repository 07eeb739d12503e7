"""A graph compiled to segments that ONNX Runtime runs in order.

Sessions are shared by all workers. Where every shape is known, a worker's boundaries live in
buffers that are planned once (a buffer serves again after the last reader of its tensor) and that
ONNX Runtime reads and writes in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from onnxq import graph as graphs
from onnxq import runtime as ort
from onnxq import segments
from onnxq.calib.histogram import Array
from onnxq.errors import DataError, ModelError
from onnxq.graph import Graph
from onnxq.segments import Segment

Shapes = Mapping[str, tuple[int, ...]]
Live = dict[str, Array]
Step = Callable[[Live], Live]


class ShapesVary(Exception):
    """A sample, or a tensor inside the model, has another shape than the program was made for."""


@dataclass(frozen=True)
class Program:
    """Segments with their sessions, in order.

    inputs: names of the graph's inputs.
    observed: names of the tensors to count, graph inputs included.
    shapes: of the inputs; None where samples may differ in shape.
    types: dtype and shape of every boundary; None where one is not known.
    """

    segments: tuple[tuple[Segment, ort.Session], ...]
    inputs: tuple[str, ...]
    observed: tuple[str, ...]
    shapes: Shapes | None
    types: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]] | None

    def checked(self, sample: Mapping[str, Array]) -> Live:
        """The inputs of one run, contiguous; raises DataError where one is missing."""
        for name in self.inputs:
            if name not in sample:
                raise DataError(
                    f"a sample has no input '{name}', it has {sorted(sample)}; "
                    f"the model's inputs are {sorted(self.inputs)}"
                )
        shapes = self.shapes
        if shapes and any(sample[name].shape != shapes[name] for name in self.inputs):
            raise ShapesVary
        return {name: np.ascontiguousarray(sample[name]) for name in self.inputs}


def compile_program(
    graph: Graph, observed: Sequence[str], runtime: ort.Runtime, shapes: Shapes | None
) -> Program:
    """The program that computes `observed`, for inputs of `shapes` or, with None, of any shape."""
    inputs = tuple(t.name for t in graph.inputs)
    special = segments.specialize(graph, [n for n in observed if n not in inputs], shapes)
    pairs = []
    for segment in segments.cut(special, set(observed)):
        model = graphs.to_proto(segments.subgraph(special, segment))
        pairs.append((segment, ort.session(model, runtime, threads=1)))
    ort.release_free_memory()
    tensors = special.tensors()
    types: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] | None = {}
    for name in (n for segment, _ in pairs for n in segment.outputs):
        shape = segments.static_shape(tensors[name])
        if shapes is None or tensors[name].dtype is None or not shape or not prod(shape):
            types = None
            break
        types[name] = (np.dtype(tensors[name].dtype), shape)
    return Program(tuple(pairs), inputs, tuple(observed), shapes, types)


def steps_of(program: Program) -> list[Step]:
    """What one worker calls in turn on its live tensors; each returns what its segment wrote."""
    if program.types is None:
        return [_unbound(segment, session) for segment, session in program.segments]
    buffers = _planned([segment for segment, _ in program.segments], program.types)
    return [_bound(segment, session, buffers) for segment, session in program.segments]


def _unbound(segment: Segment, session: ort.Session) -> Step:
    def step(live: Live) -> Live:
        feeds = {name: live[name] for name in segment.inputs}
        values = dict(zip(segment.outputs, ort.run(session, segment.outputs, feeds), strict=True))
        live.update(values)
        for name in segment.dead:
            del live[name]
        return values

    return step


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
            raise ShapesVary from e  # or a real error, which the unbound run then shows
        return values

    return step


def _planned(
    order: Sequence[Segment], types: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
) -> dict[str, Array]:
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
