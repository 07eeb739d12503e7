"""The parts of an output, each with a name.

A detector that writes boxes in pixels and class scores from 0 to 1 as one tensor has an SQNR of
boxes alone: the classes could be ruined and it would not show. So each input of a Concat that
writes an output is scored as an output of its own, and channels that a head splits before it joins
its levels (see `heads`) are too. Four channels beside others that a Sigmoid or Softmax wrote are
called `boxes`, and these `scores`, with `objectness` between them where there is such; behind the
output's name where a model has several. Levels of a pyramid whose channels cannot be told are
`level 1` and so on; any other part is called by the output and its place: `output0[:, 0:4]`.

A Softmax hides what went wrong: probabilities near 0 and 1 hardly move. So an output that one
writes (see `classes`) is judged at its logits, `NAME logits`, read off the probabilities p
themselves, over the classes:

    log(max(p, 2^-126)) - mean(log(max(p, 2^-126)))        in float64

An output whose length depends on the values, as behind a NonMaxSuppression, is judged at what it is
computed from (see `lengths`), and so are classes that an ArgMax picks where a model has no other
output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import PlanError
from onnxq.judge.classes import classes_axis
from onnxq.judge.classes import logits as logits
from onnxq.judge.heads import BOXES as BOXES
from onnxq.judge.heads import SCORES as SCORES
from onnxq.judge.heads import Known, called, detector
from onnxq.judge.heads import length_of as _length
from onnxq.judge.lengths import comparable, varying
from onnxq.judge.ranked import Ranked, outputs_in
from onnxq.judge.rankings import ranked_among, ranked_outputs
from onnxq.model.flow import same_source
from onnxq.model.graph import Graph, Node, Tensor, constant_of, producer
from onnxq.model.other_types import Other
from onnxq.run.segments import Shapes

# What ends an embedding: a normalization, a mean over places, a Concat of vectors.
EMBEDS = ("BatchNormalization", "Concat", "Div", "GlobalAveragePool", "LayerNormalization",
          "LpNormalization", "ReduceMean", "ReduceSum", "Tanh")  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What is scored: a whole output, or `start` to `stop` of it along `axis`.

    tensor: the tensor of the float graph that holds the same values. called: what a person calls
    it; empty for what has no name but its place. classes: along which axis the classes lie whose
    logits it is; None for the values as they are. ranked: how its rows are matched before they are
    compared; None where they are compared as they come.
    """

    output: str
    tensor: str
    axis: int | None = None
    start: int = 0
    stop: int = 0
    called: str = ""
    classes: int | None = None
    ranked: Ranked | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole output as it is."""
        return self.axis is None and self.classes is None

    @property
    def is_scores(self) -> bool:
        """Whether it is the scores beside boxes."""
        return self.called.endswith(SCORES)

    @property
    def name(self) -> str:
        """What it is called, or the output's name with the place in it."""
        if self.called or self.axis is None:
            return self.called or self.output
        return f"{self.output}[{':, ' * self.axis}{self.start}:{self.stop}]"

    def of(self, value: Array) -> Array:
        """This part of the output's value."""
        if self.classes is not None:
            return logits(value, self.classes)
        if self.axis is None:
            return value
        return value[(slice(None),) * self.axis + (slice(self.start, self.stop),)]


def parts_of(
    graph: Graph, quantized: Collection[str], shapes: Shapes, only: Sequence[str] = ()
) -> tuple[Part, ...]:
    """The parts of the floating point outputs, or of those named `only`, and of what stands in for
    outputs that cannot be compared.

    `quantized` names the nodes of a plan: then parts are tensors of the graph, and a Concat among
    the nodes is not taken apart, nor one whose inputs have unknown shapes. Raises PlanError for a
    name that is no output, or where no output is floating point.
    """
    written = written_outputs(graph, only)
    asked = [t for t in written.values() if not only or t.name in only]
    groups = ranked_outputs(graph, asked)
    matched = [part for group in groups for part in _matched(group)]
    floats = comparable(_others(asked, groups), varying(graph))
    if not floats and not matched:
        raise PlanError(
            "no scored output has floats at a length that the values do not change; "
            "use --metric module:function"
        )
    several = len(floats_of(graph)) > 1
    found = [part for t in floats for part in _placed(t, quantized, shapes, several)]
    return (*matched, *in_headline(found))


def slices_of(graph: Graph) -> tuple[Part, ...]:
    """The parts of the floating point outputs as two models of these outputs are compared by: by
    the shapes that the graph says, whether or not a plan quantizes a Concat."""
    shapes = {name: t.shape for name, t in graph.tensors().items() if t.shape is not None}
    found = floats_of(graph)
    groups = ranked_among(graph, list(written_outputs(graph).values()))
    matched = [part for group in groups for part in _matched(group)]
    in_rows = {p.output for p in matched}
    others = [t for t in found if t.name not in in_rows]
    return (*matched, *(p for t in others for p in _placed(t, (), shapes, len(found) > 1)))


def _matched(ranked: Ranked) -> list[Part]:
    """The boxes and the scores of rows that are matched."""
    numbers = {r.output: r.numbers for r in ranked.rows}
    named = ((f"matched {BOXES}", ranked.boxes), (f"matched {SCORES}", ranked.scores))
    return [Part(c.output, c.output, numbers[c.output], c.start, c.stop, name, ranked=ranked)
            for name, c in named]  # fmt: skip


def _others(outputs: Iterable[Tensor], groups: Iterable[Ranked]) -> list[Tensor]:
    """The outputs whose rows are not in a group."""
    there = set(outputs_in(groups))
    return [t for t in outputs if t.name not in there]


def ranked_in(parts: Sequence[Part]) -> list[Ranked]:
    """The groups of outputs whose rows are matched."""
    return list(dict.fromkeys(p.ranked for p in parts if p.ranked is not None))


def in_headline(parts: Sequence[Part]) -> list[Part]:
    """Without the probabilities whose logits are among the parts."""
    logits = {part.output for part in parts if part.classes is not None}
    return [part for part in parts if not (part.is_whole and part.output in logits)]


def floats_of(graph: Graph) -> list[Tensor]:
    """The outputs that are computed and may be floating point."""
    computed = (t for t in graph.outputs if t.inputs and constant_of(t) is None)
    return [t for t in computed if t.dtype is None or _is_float(t)]


def classifies(graph: Graph) -> bool:
    """Whether a model's one float output is rows of classes, [batch, classes], so that its largest
    value means something: no boxes, and no embedding as far as one can tell by what writes it."""
    found = floats_of(graph)
    if len(found) != 1 or len(found[0].shape or ()) != 2:
        return False
    node = producer(same_source(found[0]))
    return node is not None and node.op not in EMBEDS


def by_output(parts: Sequence[Part]) -> dict[str, list[Part]]:
    """Output -> its parts."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.output, []).append(part)
    return found


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
    return tuple(Part(n, n, ranked=r) for n, r in {p.output: p.ranked for p in parts}.items())


def with_stand_ins(graph: Graph) -> Graph:
    """The graph, or a copy that has what stands in for its outputs as outputs too."""
    there = {t.name for t in graph.outputs}
    others = _others((t for t in graph.outputs if t.inputs), ranked_outputs(graph))
    scored = comparable(others, varying(graph))
    if not (more := [t.name for t in scored if t.name not in there]):
        return graph
    copy = graph.copy()
    tensors = copy.tensors()
    copy.outputs += [tensors[name] for name in more]
    return copy


def with_outputs(graph: Graph, parts: Sequence[Part]) -> Graph:
    """A copy of the graph whose outputs are the tensors of the parts, and what pairs their rows."""
    copy = graph.copy()
    tensors = copy.tensors()
    names = dict.fromkeys([*(part.tensor for part in parts), *outputs_in(ranked_in(parts))])
    copy.outputs = [tensors[name] for name in names]
    return copy


def class_axes(graph: Graph) -> dict[str, int]:
    """Outputs that hold probabilities of classes -> the axis of the classes."""
    axes = {output.name: classes_axis(output) for output in graph.outputs}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _is_float(tensor: Tensor) -> bool:
    kind = tensor.dtype
    return not isinstance(kind, int | Other) and np.dtype(kind).kind == "f"


def joined(tensor: Tensor) -> Node | None:
    """The Concat that writes a tensor."""
    node = producer(tensor)
    return node if node is not None and node.op == "Concat" else None


def _placed(output: Tensor, quantized: Collection[str], shapes: Known, several: bool) -> list[Part]:
    """The parts of an output with their places in it; the whole where they are not known."""
    before = f"{output.name} " if several else ""
    if not quantized and (found := detector(output, shapes)):
        along, names = found
        whole = output.name
        return [Part(whole, whole, along, *ends, before + name) for name, ends in names.items()]
    axis = _axis(output, quantized, shapes)
    if axis is None:
        return _whole(output)
    pieces = _pieces(output, axis, quantized, shapes)
    lengths = [_length(t, axis, shapes) or 0 for t in pieces]
    places = list(pairwise(accumulate(lengths, initial=0)))
    return [
        Part(output.name, t.name, axis, start, stop, name and before + name)
        for t, (start, stop), name in zip(pieces, places, called(pieces, axis, shapes), strict=True)
    ]


def _whole(output: Tensor) -> list[Part]:
    """An output that is not taken apart, with its logits where a Softmax writes it."""
    whole, axis = Part(output.name, output.name), classes_axis(output)
    if axis is None:
        return [whole]
    return [whole, Part(output.name, output.name, called=f"{output.name} logits", classes=axis)]


def _pieces(tensor: Tensor, axis: int, quantized: Collection[str], shapes: Known) -> list[Tensor]:
    """What Concats along one axis join to a tensor."""
    concat = joined(tensor)
    if concat is None or _axis(tensor, quantized, shapes) != axis:
        return [tensor]
    return [piece for t in concat.inputs for piece in _pieces(t, axis, quantized, shapes)]


def _axis(tensor: Tensor, quantized: Collection[str], shapes: Known) -> int | None:
    """Along which axis a Concat joins a tensor of two parts or more that have known lengths; None
    where that is not so."""
    concat = joined(tensor)
    if concat is None or concat.name in quantized or len(concat.inputs) < 2:
        return None
    if any(constant_of(t) is not None or not t.inputs for t in concat.inputs):
        return None
    ranks = {len(shapes[t.name]) for t in concat.inputs if t.name in shapes}
    if len(ranks) != 1:
        return None
    axis = int(concat.attrs["axis"]) % ranks.pop()
    known = all(_length(t, axis, shapes) is not None for t in concat.inputs)
    return axis if known else None
