"""Smoothing: activation outliers moved into weights, with the strength searched at the outputs.

    y = x W = (x / s) (s W),    s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)    for each channel j

All readers of x share s. What writes x takes 1/s where it can, else a Mul does (`smooth_groups`).
One alpha does not fit all: at 0.5, the usual value, a small BERT lost 8 dB and at 0.8 it gained 8.
So the alphas of `ALPHAS` are tried for all groups together, and each group's best by the error at
its readers; what does best at the outputs is refined group by group. A Mul that brings less than
`MUL_WORTH` goes. Ranges are read once for each alpha: those of a group depend on its own alone.

Source: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models" (2022), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxq.calib.observed import observed
from onnxq.calib.ranges import Ranges
from onnxq.graph import Graph, node_by_name
from onnxq.numerics import amax_of, scale_of
from onnxq.recover.channel_sizes import Sizes, channel_sizes
from onnxq.recover.draft import Bench, Draft, Outcome, Values
from onnxq.recover.rescale import multiply
from onnxq.recover.smooth_groups import (
    Group,
    factors,
    find_groups,
    smoothed,
    smoothed_name,
    weight_sizes,
)
from onnxq.spec import Edge

Array = npt.NDArray[Any]
Choice = Mapping[Group, float]  # group -> alpha; a group that is missing is left alone

ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9)
MUL_WORTH = 0.05  # dB on the average over the outputs that an explicit Mul must bring
TRIALS = 64  # at most so many choices are tried at the outputs


@dataclass(frozen=True)
class _Trial:
    """A choice and what it does: the outputs on the held-out samples, their mean SQNR in dB."""

    choice: Choice
    values: Values
    score: float


@dataclass(frozen=True)
class _Table:
    """What each group needs for any choice: its scale and its readers' error by alpha, and the
    ranges of all tensors by alpha (0: left alone)."""

    bench: Bench
    graph: Graph
    scales: Mapping[tuple[Group, float], Array]
    errors: Mapping[tuple[Group, float], float]
    ranges: Mapping[float, Ranges]

    def graph_of(self, choice: Choice) -> Graph:
        return smoothed(self.graph, {g: self.scales[g, alpha] for g, alpha in choice.items()})

    def run(self, choice: Choice) -> _Trial:
        graph = self.graph_of(choice)
        plain = self.ranges[0.0]
        tensors = dict(plain.tensors)
        for group, alpha in choice.items():
            names = _range_names(self.bench, graph, group)
            tensors |= {n: self.ranges[alpha][n] for n in names}
        needed = {name: tensors[name] for name in observed(graph, self.bench.plan)}
        values = self.bench.outputs(Draft(graph, replace(plain, tensors=needed)))
        return _Trial(choice, values, _mean(self.bench.sqnr(values)))


def smooth(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with its activations smoothed as far as that raises the SQNR at the outputs; the
    same draft where it does not.

    Only float32 graphs are smoothed. Expects a draft whose ranges are not read yet.
    """
    groups = find_groups(draft.graph, bench.plan)
    if not groups or not bench.judged:
        note = "no activation is read by linear ops alone that can take a scale"
        return draft, Outcome("smooth", notes=(note,))
    table = _table(bench, draft.graph, groups)
    plain = table.run({})
    best = _search(table, groups, plain)
    if best is plain:
        reason = "no alpha raises the SQNR of the outputs"
        return draft, _outcome(table, plain, plain, {g: reason for g in groups})
    graph = table.graph_of(best.choice)
    values = bench.outputs(Draft(graph, bench.ranges(graph)))
    final = _Trial(best.choice, values, _mean(bench.sqnr(values)))
    if fallen := bench.worst_fall(plain.values, values):
        reason = f"lowers the SQNR of '{fallen}'"
        return draft, _outcome(table, plain, plain, {g: reason for g in groups})
    left = {g: "brings nothing at the outputs" for g in groups if g not in best.choice}
    return replace(draft, graph=graph), _outcome(table, plain, final, left)


def _table(bench: Bench, graph: Graph, groups: list[Group]) -> _Table:
    fitted = bench.chosen.select(list(bench.fit))
    layouts = {g.tensor: g.layout for g in groups}
    sizes = channel_sizes(graph, layouts, fitted, bench.runtime, bench.workers)
    ranges = {0.0: bench.ranges(graph)}
    scales, errors = {}, {}
    for group in groups:
        scales[group, 0.0] = np.ones(group.layout.channels)
        weights = weight_sizes(graph, group)
        for alpha in ALPHAS:
            scales[group, alpha] = factors(sizes[group.tensor], weights, alpha)
    for alpha in (0.0, *ALPHAS):
        changed = smoothed(graph, {g: scales[g, alpha] for g in groups}) if alpha else graph
        if alpha:
            ranges[alpha] = bench.ranges(changed)
        for group in groups:
            source = _source(bench, smoothed_name(changed, group))
            noise = ranges[alpha][source].expected_error
            errors[group, alpha] = _error(
                bench, graph, group, sizes[group.tensor], scales[group, alpha], noise
            )
    return _Table(bench, graph, scales, errors, ranges)


def _error(
    bench: Bench, graph: Graph, group: Group, sizes: Sizes, scale: Array, noise: float
) -> float:
    """Expected squared error at the outputs of a group's readers, from rounding that is
    independent from value to value: `noise` of each activation, step^2 / 12 of each weight."""
    nodes, total = node_by_name(graph), 0.0
    for name in group.readers:
        weight = multiply(nodes[name], scale).values.astype(np.float64)
        total += noise * float((weight**2).sum())
        spec = bench.plan.edges.get(Edge(name, 1))
        if spec is not None:
            step = scale_of(amax_of(weight, spec), spec).astype(np.float64)
            fan = weight.size / scale.size
            total += fan * float((step**2).mean() / 12 * (sizes.power / scale**2).sum())
    return total


def _search(table: _Table, groups: list[Group], plain: _Trial) -> _Trial:
    """The best choice found: one alpha for all groups or each group's own, then step by step."""
    bench = table.bench
    local = {g: min((0.0, *ALPHAS), key=lambda a: table.errors[g, a]) for g in groups}
    starts: list[Choice] = [dict.fromkeys(groups, alpha) for alpha in ALPHAS]
    starts.append({g: alpha for g, alpha in local.items() if alpha})
    best, done = plain, 0
    for choice in starts:
        trial = table.run(choice)
        if bench.worst_fall(plain.values, trial.values) is None and trial.score > best.score:
            best = trial
        done += 1
        bench.progress(done, TRIALS)
    order = sorted(groups, key=lambda g: -max(table.errors[g, a] for a in ALPHAS))
    for group in order:
        for choice in _steps(best.choice, group, local[group]):
            if done >= TRIALS:
                return best
            trial = table.run(choice)
            done += 1
            bench.progress(done, TRIALS)
            if _better(bench, plain, best, trial, group):
                best = trial
                break
    return best


def _steps(choice: Choice, group: Group, local: float) -> Iterator[Choice]:
    """The choices beside `choice` for one group: left alone, or a step of alpha toward the best at
    its readers."""
    others = {g: a for g, a in choice.items() if g is not group}
    if group in choice:
        yield others
    grid = (0.0, *ALPHAS)
    now, end = grid.index(choice.get(group, 0.0)), grid.index(local)
    if now != end:
        alpha = grid[now + (1 if end > now else -1)] if now and end else local
        if alpha:
            yield {**others, group: alpha}


def _better(bench: Bench, plain: _Trial, best: _Trial, trial: _Trial, group: Group) -> bool:
    """Whether to go on from `trial`: it is better, or as good with a Mul less."""
    if not trial.choice:
        return False
    worth = 0.0
    if not group.folded:
        worth = MUL_WORTH * ((group in trial.choice) - (group in best.choice))
    if trial.score <= best.score + worth:
        return False
    return bench.worst_fall(plain.values, trial.values) is None


def _range_names(bench: Bench, graph: Graph, group: Group) -> list[str]:
    """The observed tensors whose ranges depend on how a group is smoothed."""
    if group.folded:
        wanted = set(observed(graph, bench.plan))
        return [name for name in group.scaled if name in wanted]
    return [_source(bench, smoothed_name(graph, group))]


def _source(bench: Bench, tensor: str) -> str:
    return bench.plan.source.get(tensor, tensor)


def _mean(sqnr: Mapping[str, float]) -> float:
    return math.fsum(sqnr.values()) / len(sqnr)


def _outcome(table: _Table, before: _Trial, after: _Trial, undone: Mapping[Group, str]) -> Outcome:
    bench = table.bench
    gains: dict[str, float] = {}
    notes = []
    for group, alpha in after.choice.items():
        error = max(table.errors[group, alpha], np.finfo(np.float64).tiny)
        gain = 10 * math.log10(max(table.errors[group, 0.0], error * 1e-20) / error)
        gains |= dict.fromkeys(group.readers, gain)
        how = "folded" if group.folded else "by a Mul of its own"
        notes.append(f"'{group.tensor}' smoothed with alpha {alpha:g}, {how}")
    reasons = {name: why for group, why in undone.items() for name in group.readers}
    return Outcome(
        "smooth", gains, reasons, bench.sqnr(before.values), bench.sqnr(after.values), tuple(notes)
    )
