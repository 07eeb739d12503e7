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
from onnxq.segments import Segment, Shapes

Live = dict[str, Array]
Step = Callable[[Live], Live]
Types = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]


class BufferMismatch(Exception):
    """ONNX Runtime refused the planned buffers: a tensor has another shape than was inferred."""


@dataclass(frozen=True)
class Program:
    """Segments with their sessions, in order.

    inputs: names of the graph's inputs.
    observed: names of the tensors to count, graph inputs included.
    shapes: of the inputs, for which `types` holds.
    types: dtype and shape of every boundary; None where one is not known.
    """

    segments: tuple[tuple[Segment, ort.Session], ...]
    inputs: tuple[str, ...]
    observed: tuple[str, ...]
    shapes: Shapes
    types: Types | None

    def checked(self, sample: Mapping[str, Array]) -> Live:
        """The inputs of one run, contiguous; raises DataError where one is missing."""
        for name in self.inputs:
            if name not in sample:
                raise DataError(
                    f"a sample has no input '{name}', it has {sorted(sample)}; "
                    f"the model's inputs are {sorted(self.inputs)}"
                )
        return {name: np.ascontiguousarray(sample[name]) for name in self.inputs}

    def planned_for(self, live: Mapping[str, Array]) -> bool:
        """Whether the buffers have the shapes that these inputs lead to."""
        return self.types is not None and all(
            live[name].shape == self.shapes.get(name) for name in self.inputs
        )


def compile_program(
    graph: Graph, observed: Sequence[str], runtime: ort.Runtime, shapes: Shapes
) -> Program:
    """The program that computes `observed`; it runs inputs of any shape, and those of `shapes` in
    planned buffers. Segments and sessions do not depend on `shapes`, so that no result does.
    """
    inputs = tuple(t.name for t in graph.inputs)
    part = segments.restrict(graph, [n for n in observed if n not in inputs])
    pairs = []
    for segment in segments.cut(part, set(observed)):
        model = graphs.to_proto(segments.subgraph(part, segment))
        pairs.append((segment, ort.session(model, runtime, threads=1)))
    ort.release_free_memory()
    types = _types(part, [segment for segment, _ in pairs], shapes)
    return Program(tuple(pairs), inputs, tuple(observed), shapes, types)


def _types(graph: Graph, order: Sequence[Segment], inputs: Shapes) -> Types | None:
    """Dtype and shape of every boundary; None where one is not known or holds nothing."""
    tensors, shapes = graph.tensors(), segments.shapes_at(graph, inputs)
    types = {}
    for name in (name for segment in order for name in segment.outputs):
        dtype, shape = tensors[name].dtype, shapes.get(name)
        if dtype is None or shape is None or not prod(shape):
            return None
        types[name] = (np.dtype(dtype), shape)
    return types


def free_steps(program: Program) -> list[Step]:
    """What a worker calls in turn on its live tensors; each returns what its segment wrote."""
    return [_unbound(segment, session) for segment, session in program.segments]


def planned_steps(program: Program) -> list[Step]:
    """The same in buffers of the worker's own, for inputs that the program is planned for."""
    if program.types is None:
        return []
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
