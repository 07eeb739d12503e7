"""The parts of an output, each with a name.

A detector that writes boxes in pixels and class scores from 0 to 1 as one tensor has an SQNR of
boxes alone: the classes could be ruined and it would not show. So each input of a Concat that
writes an output is scored as an output of its own, and called by the output and its place there:
`output0[:, 0:4]`.

An output whose length depends on the values, as behind a NonMaxSuppression, is judged at what it is
computed from (see `lengths`), and so are classes that an ArgMax picks where a model has no other
output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import PlanError
from onnxq.judge.lengths import comparable, stand_ins, varying
from onnxq.model.flow import same_source
from onnxq.model.graph import Graph, Node, Tensor, constant_of, producer
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
    outputs that cannot be compared.

    `quantized` names the nodes of the plan: a Concat among them is not taken apart, nor one whose
    inputs have unknown shapes. Raises PlanError for a name that is no output, or where no output is
    floating point.
    """
    written = written_outputs(graph, only)
    floats = comparable([t for t in written.values() if not only or t.name in only], varying(graph))
    if not floats:
        raise PlanError(
            "no scored output is floating point and of a length that values do not change; "
            "use --metric module:function"
        )
    return tuple(part for t in floats for part in _placed(t, quantized, shapes))


def written_outputs(graph: Graph, asked: Sequence[str] = ()) -> dict[str, Tensor]:
    """The outputs that are computed, by name; raises PlanError for one of `asked` that is not."""
    written = {t.name: t for t in graph.outputs if t.inputs and constant_of(t) is None}
    if unknown := [name for name in asked if name not in written]:
        raise PlanError(
            f"the model has no output '{unknown[0]}'; it has {', '.join(map(repr, written))}"
        )
    return written


def wholes_of(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The outputs that the parts are of, not taken apart."""
    return tuple(Part(name, name) for name in dict.fromkeys(part.output for part in parts))


def with_stand_ins(graph: Graph) -> Graph:
    """The graph, or a copy that has what stands in for its outputs as outputs too."""
    there = {t.name for t in graph.outputs}
    scored = comparable([t for t in graph.outputs if t.inputs], varying(graph))
    if not (more := [t.name for t in scored if t.name not in there]):
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


def judged_tensors(graph: Graph) -> list[str]:
    """Names of the float32 outputs, with the innermost parts of a Concat in place of the whole, and
    of what stands in for outputs that cannot be compared."""
    unlike = varying(graph)
    names: dict[str, None] = {}
    for output in graph.outputs:
        standing = stand_ins(output, unlike) if output.name in unlike else [output]
        names |= dict.fromkeys(t.name for s in standing for t in _innermost(s))
    if not names:
        standing = [s for output in graph.outputs for s in stand_ins(output, unlike)]
        names |= dict.fromkeys(t.name for s in standing for t in _innermost(s))
    return list(names)


def score_parts(graph: Graph) -> frozenset[str]:
    """Those of the judged tensors that are scores beside other parts of an output, as a detector
    has them: written by Sigmoid or Softmax, if only moved since."""
    scores = set()
    for output in graph.outputs:
        parts = list(_innermost(output))
        for part in parts if len(parts) > 1 else ():
            node = producer(same_source(part))
            if node is not None and node.op in ("Sigmoid", "Softmax"):
                scores.add(part.name)
    return frozenset(scores)


def _joined(tensor: Tensor) -> Node | None:
    """The Concat that writes a tensor."""
    node = producer(tensor)
    return node if node is not None and node.op == "Concat" else None


def _innermost(tensor: Tensor) -> Iterator[Tensor]:
    """The parts, and their parts, down to what no Concat writes; constants are none."""
    if producer(tensor) is None or tensor.dtype != np.float32 or constant_of(tensor) is not None:
        return
    concat = _joined(tensor)
    if concat is None:
        yield tensor
        return
    for part in concat.inputs:
        yield from _innermost(part)


def _placed(output: Tensor, quantized: Collection[str], shapes: Shapes) -> list[Part]:
    """The parts of an output with their places in it; the whole where they are not known."""
    whole, concat = [Part(output.name, output.name)], _joined(output)
    if concat is None or concat.name in quantized or len(concat.inputs) < 2:
        return whole
    known = [shapes.get(t.name) for t in concat.inputs]
    if None in known or any(constant_of(t) is not None or not t.inputs for t in concat.inputs):
        return whole
    axis = concat.attrs["axis"] % len(known[0] or ())
    ends = accumulate((shape[axis] for shape in known if shape is not None), initial=0)
    return [
        Part(output.name, t.name, axis, start, stop)
        for t, (start, stop) in zip(concat.inputs, pairwise(ends), strict=True)
    ]
