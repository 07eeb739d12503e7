"""Outputs that are a Concat of branches, scored branch by branch.

A detector that writes boxes in pixels and class scores from 0 to 1 as one tensor has an SQNR of
boxes alone: the classes could be ruined and it would not show. So each input of such a Concat is
scored as an output of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from onnxq.arrays import Array
from onnxq.errors import PlanError
from onnxq.judge.lengths import comparable, varying
from onnxq.model.graph import Graph, Tensor, constant_of, producer
from onnxq.run.segments import Shapes


@dataclass(frozen=True)
class Part:
    """What is scored: a whole output, or `start` to `stop` of it along `axis`.

    tensor: the tensor of the float graph that holds the same values.
    """

    output: str
    tensor: str
    axis: int | None = None
    start: int = 0
    stop: int = 0

    @property
    def name(self) -> str:
        """The output's name, with the part of it."""
        if self.axis is None:
            return self.output
        return f"{self.output}[{':, ' * self.axis}{self.start}:{self.stop}]"

    def of(self, value: Array) -> Array:
        """This part of the output's value."""
        if self.axis is None:
            return value
        return value[(slice(None),) * self.axis + (slice(self.start, self.stop),)]


def parts_of(
    graph: Graph, quantized: Collection[str], shapes: Shapes, only: Sequence[str] = ()
) -> tuple[Part, ...]:
    """The parts of the floating point outputs, or of those named `only`, and of what stands in for
    outputs that cannot be compared (see `lengths`).

    `quantized` names the nodes of the plan: a Concat among them is not taken apart. Raises
    PlanError for a name that is no output, or where no output is floating point.
    """
    written = {t.name: t for t in graph.outputs if t.inputs}
    if unknown := [name for name in only if name not in written]:
        raise PlanError(
            f"the model has no output '{unknown[0]}'; it has {', '.join(map(repr, written))}"
        )
    named = [t for t in written.values() if not only or t.name in only]
    floats = comparable(named, varying(graph))
    if not floats:
        raise PlanError(
            "no scored output is floating point and of a length that values do not change; "
            "use --metric module:function"
        )
    return tuple(part for t in floats for part in _parts(t, quantized, shapes))


def wholes_of(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The outputs that the parts are of, not taken apart."""
    return tuple(Part(name, name) for name in dict.fromkeys(part.output for part in parts))


def with_stand_ins(graph: Graph) -> Graph:
    """The graph, or a copy that has what stands in for its outputs as outputs too."""
    unlike = varying(graph)
    there = {t.name for t in graph.outputs}
    found = comparable([t for t in graph.outputs if t.inputs], unlike)
    if not (more := [t.name for t in found if t.name not in there]):
        return graph
    copy = graph.copy()
    tensors = copy.tensors()
    copy.outputs += [tensors[name] for name in more]
    return copy


def with_outputs(graph: Graph, parts: Sequence[Part]) -> Graph:
    """A copy of the graph whose outputs are the tensors of the parts."""
    copy = graph.copy()
    tensors = copy.tensors()
    copy.outputs = [tensors[name] for name in dict.fromkeys(part.tensor for part in parts)]
    return copy


def _parts(output: Tensor, quantized: Collection[str], shapes: Shapes) -> list[Part]:
    whole = [Part(output.name, output.name)]
    node = producer(output)
    if node is None or node.op != "Concat" or node.name in quantized or len(node.inputs) < 2:
        return whole
    known = [shapes.get(t.name) for t in node.inputs]
    if None in known or any(constant_of(t) is not None or not t.inputs for t in node.inputs):
        return whole
    axis = node.attrs["axis"] % len(known[0])  # type: ignore[arg-type]
    ends = accumulate((shape[axis] for shape in known if shape is not None), initial=0)
    return [
        Part(output.name, t.name, axis, start, stop)
        for t, (start, stop) in zip(node.inputs, pairwise(ends), strict=True)
    ]
