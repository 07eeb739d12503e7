"""A graph run piece by piece over all samples at once, so that an op can be changed before the next
runs.

The graph is cut after given tensors, the stops. Samples are brought from stop to stop; there the
tensors that cross the cut are kept, per sample, and a stop may be shifted before the next nodes
read it. So each op runs once a sample, however many ops are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TypeVar

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.arrays import Array, Samples
from onnxq.errors import ModelError
from onnxq.model import graph as graphs
from onnxq.model import stored
from onnxq.model.graph import Graph, Tensor, constant_of
from onnxq.numerics import dequantize, spread
from onnxq.progress import steps
from onnxq.run import over, segments
from onnxq.run import runtime as ort
from onnxq.spec import QuantSpec

Values = Mapping[str, Array]
T = TypeVar("T")


def with_float_weights(graph: Graph) -> Graph:
    """A copy of a Q/DQ graph that holds its rounded constants as floats, by `float_weights`."""
    return float_weights(graph.copy())


def float_weights(graph: Graph) -> Graph:
    """`graph` itself, changed to hold its rounded constants as floats: the same numbers, faster.

    Of every type, packed INT4, FP8 and INT32 biases included; those whose scale is not float32
    stay as they are.
    """
    made = []
    for node in steps("weights", graph.nodes, len(graph.nodes)):
        if node.op != "DequantizeLinear" or not isinstance(node.inputs[0], gs.Constant):
            continue
        codes, scale, *zero = (_values(t) for t in node.inputs if not t.is_empty())
        if scale.dtype != np.float32:
            continue
        axis, size = node.attrs.get("axis", 1), node.attrs.get("block_size", 0)
        spec = QuantSpec("int8", "channel", axis % max(1, codes.ndim))
        if size:
            spec = QuantSpec("int8", "block", spec.axis, size)
        elif scale.size == 1:
            spec, scale = QuantSpec(), scale.reshape(())
            zero = [z.reshape(()) for z in zero]
        values = codes.astype(np.float32)
        for z in zero:
            values = values - spread(z, codes.shape, spec)
        out = node.outputs[0]
        node.outputs.clear()
        made.append(out.to_constant(dequantize(values, scale, spec)))
    stored.spill(made, ())
    return graph.cleanup()


def _values(constant: Tensor) -> Array:
    values = constant_of(constant)
    assert values is not None
    return values


class Replay:
    """Samples on their way through a graph.

    The last node of segment k writes stop k; what is left of the graph is the last segment. `live`
    holds, for each sample, the tensors that later nodes read and the stop it stands at; `final`
    those of `outputs` that it has written. A sample that is not brought along stays behind with
    what it holds, and catches up when it is. Expects a graph from `segments.restrict`. Raises
    ModelError where a tensor that NumPy cannot hold would have to be kept.
    """

    def __init__(
        self, graph: Graph, stops: Sequence[str], outputs: Sequence[str], runtime: ort.Runtime
    ) -> None:
        self.graph, self.stops, self.runtime = graph, tuple(stops), runtime
        self.nodes = graphs.node_by_name(graph)
        self.outputs = frozenset(outputs)
        place = {t.name: p for p, n in enumerate(graph.nodes) for t in n.outputs}
        ends = sorted({place[name] + 1 for name in stops} | {len(graph.nodes)})
        self.segments = segments.cut_at(graph, ends, {*stops, *outputs})
        tensors = graph.tensors()
        for name in (name for segment in self.segments for name in segment.inputs):
            if not segments.can_cross(tensors[name]):
                raise ModelError(f"tensor '{name}' is of a type that cannot be kept between ops")
        self.sessions: dict[int, ort.Session] = {}
        self.shifts: dict[int, Array] = {}
        self.data: Samples
        self.at: list[int] = []
        self.live: list[dict[str, Array]] = []
        self.final: list[dict[str, Array]] = []

    def start(self, data: Samples) -> None:
        """Take the samples of `data` to the beginning of the graph."""
        self.data = data
        self.at = [0] * len(data)
        self.live = [{} for _ in self.at]
        self.final = [{} for _ in self.at]

    def kept_bytes(self, sample: Mapping[str, Array]) -> list[int]:
        """For each stop the bytes that one sample keeps there, as far as shapes can be known."""
        shapes = segments.shapes_at(self.graph, {k: x.shape for k, x in sample.items()})
        tensors = self.graph.tensors()
        alive = dict.fromkeys(t.name for t in self.graph.inputs)
        kept = []
        for segment in self.segments:
            alive |= dict.fromkeys(segment.outputs)
            for name in segment.dead:
                alive.pop(name, None)
            known = [n for n in alive if n in shapes]
            kept.append(sum(prod(shapes[n]) * np.dtype(tensors[n].dtype).itemsize for n in known))
        return kept

    def bring(self, k: int, samples: Iterable[int], pool: ThreadPoolExecutor) -> None:
        """Bring `samples`, wherever they stand before it, to the end of segment `k`."""
        self._open(k)
        for _ in pool.map(lambda i: self._advance(i, k), dict.fromkeys(samples)):
            pass
        for behind in [j for j in self.sessions if j < min(self.at)]:
            del self.sessions[behind]

    def finish(
        self, samples: Iterable[int], pool: ThreadPoolExecutor, read: Callable[[int, Values], T]
    ) -> list[T]:
        """What `read(i, outputs)` makes of each of `samples` at the end of the graph; what is held
        of the sample then goes."""
        last = len(self.segments) - 1
        self._open(last)

        def one(i: int) -> T:
            self._advance(i, last)
            outputs, self.final[i], self.live[i] = self.final[i], {}, {}
            return read(i, outputs)

        chosen = list(samples)
        return list(steps("samples", pool.map(one, chosen), len(chosen)))

    def clear(self) -> None:
        """Let go of what is held of all samples, and of the sessions."""
        self.live.clear()
        self.sessions.clear()

    def _open(self, k: int) -> None:
        if k not in self.sessions:
            self.sessions[k] = over.opened(self.graph, self.segments[k], self.runtime)

    def shift(self, k: int, shift: Array) -> None:
        """Add `shift`, which broadcasts to it, to stop `k`: now and where samples catch up."""
        self.shifts[k] = shift
        for i, at in enumerate(self.at):
            if at == k + 1:
                self.live[i][self.stops[k]] += shift

    def _advance(self, i: int, last: int) -> None:
        live = self.live[i]
        if self.at[i] == 0:
            sample = self.data.sample(i)
            live |= {t.name: np.ascontiguousarray(sample[t.name]) for t in self.graph.inputs}
        for k in range(self.at[i], last + 1):
            segment = self.segments[k]
            live |= over.written(segment, self.sessions[k], live)
            if k in self.shifts:
                live[self.stops[k]] += self.shifts[k]
            self.final[i] |= {n: live[n] for n in segment.outputs if n in self.outputs}
            for name in segment.dead:
                if name not in self.stops or name not in segment.outputs:
                    del live[name]
        self.at[i] = last + 1
