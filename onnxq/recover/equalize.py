"""Cross-layer equalization: weights of neighbouring layers share their ranges, channel by channel.

    y = W2 f(W1 x + b1) = (W2 s) f((W1 / s) x + b1 / s),    s_i = sqrt(r1_i r2_i) / r2_i

r1_i, r2_i: largest |weight| that writes and that reads channel i; both become sqrt(r1_i r2_i).
Exact for f with f(s x) = s f(x), s > 0: Relu, LeakyRelu, PRelu, pooling, padding with zeros; not
for a Clip at 6. A pair is taken only where nothing else reads what lies between. Pairs are swept
until the scales stand still: a depthwise layer is in two of them.

Only the outputs say whether that helps: with scales per channel it often does not. All pairs are
tried, then halves, quarters and single pairs of those that hurt; in the end each is tried without.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(2019), section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.verdict import Errors
from onnxq.model.graph import Graph, Node, node_by_name
from onnxq.plan import Plan
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.groups import WIDEST, Group, find_groups, scale_group
from onnxq.recover.keeping import halves, keep
from onnxq.recover.linear import input_amax, output_amax, scale_before
from onnxq.recover.rescale import absorb
from onnxq.recover.trials import NOTHING, Choice, Strengths, judge, tabulate

SWEEPS = 30  # over all pairs, at most
STILL = 1e-3  # a scale that changes by a smaller share stands still
TRIALS = 32  # at most so many choices of pairs are tried at the outputs
FULL = 1.0  # strength of a pair that is equalized


@dataclass(frozen=True, eq=False)
class Pair:
    """A group with one reader and one linear op that writes it.

    channels: for each output channel of the writer the channel that its reader takes it for.
    """

    group: Group
    writer: str
    channels: Array

    def __str__(self) -> str:
        return f"{self.writer} -> {self.group.readers[0]}"


def equalize(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with those pairs of layers equalized that raise the SQNR at the outputs; the same
    draft where none does.

    Only float32 graphs are equalized. Expects a draft whose ranges are not read yet.
    """
    pairs = find_pairs(draft.graph, bench.plan)
    if not pairs or not bench.judged:
        return draft, Outcome("equalize", notes=("no two layers here can be equalized",))
    scales = equalizing_scales(draft.graph, pairs)
    strengths = {(p.group, FULL): s for p, s in zip(pairs, scales, strict=True)}
    table = tabulate(bench.searching, draft.graph, strengths)
    choice = _search(table, [p.group for p in pairs])
    graph = table.graph_of(choice) if choice else draft.graph
    verdict = judge(bench, draft.graph, graph)
    if verdict.against:
        choice = {}
    reason = verdict.against or NOTHING
    outcome = Outcome(
        "equalize",
        undone={str(p): reason for p in pairs if p.group not in choice},
        before=verdict.before,
        after=verdict.after,
        notes=tuple(f"{p} are equalized" for p in pairs if p.group in choice),
    )
    return (replace(draft, graph=graph) if choice else draft), outcome


def find_pairs(graph: Graph, plan: Plan) -> list[Pair]:
    """The pairs of a float32 graph, in its order: layers that `plan` quantizes, and what writes
    their input."""
    nodes, tensors = node_by_name(graph), graph.tensors()
    pairs = []
    for group in find_groups(graph, plan):
        if not group.folded or len(group.readers) != 1:
            continue
        numbers = np.arange(group.layout.channels)
        probe = scale_before(nodes[group.readers[0]], numbers + 1.0)
        writers = absorb(graph, tensors[group.tensor], probe).writers
        if len(writers) == 1:
            name, marks = writers[0]
            channels = np.rint(marks).astype(np.int64) - 1
            if np.array_equal(np.sort(channels), numbers):
                pairs.append(Pair(group, name, channels))
    return pairs


def equalizing_scales(graph: Graph, pairs: Sequence[Pair]) -> list[Array]:
    """For each pair the scale, one value a channel, that gives both its sides the same ranges."""
    copy = graph.copy()
    nodes = node_by_name(copy)
    totals = [np.ones(p.group.layout.channels) for p in pairs]
    for _ in range(SWEEPS):
        still = True
        for total, pair in zip(totals, pairs, strict=True):
            scale = _scale(nodes, pair)
            if np.all(np.abs(np.log(scale)) < STILL):
                continue
            scale = np.clip(total * scale, 1 / WIDEST, WIDEST) / total
            scale_group(copy, pair.group, scale)
            total *= scale
            still = False
        if still:
            break
    return totals


def _scale(nodes: Mapping[str, Node], pair: Pair) -> Array:
    """sqrt(r1 r2) / r2, and 1 for a channel of which one side is zero."""
    read = input_amax(nodes[pair.group.readers[0]])
    written = np.empty(read.shape)
    written[pair.channels] = output_amax(nodes[pair.writer])
    live = (read > 0) & (written > 0)
    scale = np.ones(read.shape)
    scale[live] = np.sqrt(written[live] / read[live])
    return scale


def _search(table: Strengths, groups: Sequence[Group]) -> Choice:
    """The groups that raise the SQNR: added together, halved again and again where they hurt, and
    then those taken out that it is better without."""
    fallen, trials = table.bench.jury.worst_fall, count(1)

    def run(chosen: Iterable[Group]) -> Errors:
        errors = table.run(dict.fromkeys(chosen, FULL)).errors
        table.bench.progress(next(trials), TRIALS)
        return errors

    kept = keep([groups], table.run({}).errors, run, fallen, halves, TRIALS)
    best, now = list(kept.items), kept.after
    left = TRIALS - (next(trials) - 1)
    for group in list(best)[:left] if len(best) > 1 else ():
        without = [g for g in best if g is not group]
        errors = run(without)
        if fallen(now, errors) is None:
            best, now = without, errors
    return dict.fromkeys(best, FULL)
