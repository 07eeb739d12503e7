"""Smoothing: activation outliers moved into weights, with the strength searched at the outputs.

    y = x W = (x / s) (s W),    s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)    for each channel j

All readers of x share s. What writes x takes 1/s where it can, else a Mul does (`groups`). No alpha
is good for all: of a small BERT, 18.7 dB by itself, 0.4 made 9, the usual 0.5 19, and 0.7 25.6. So
the alphas of `ALPHAS` are tried for all groups together, and each group's best by the error at its
readers; what does best at the outputs is refined group by group, which counts most where a group is
better left alone. A Mul that brings less than `MUL_WORTH` goes.

Source: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models" (2022), section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.verdict import CEILING
from onnxq.model.graph import node_by_name
from onnxq.numerics import amax_of, decibels, scale_of
from onnxq.recover.channel_sizes import Sizes, channel_sizes
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.groups import Group, factors, find_groups, weight_sizes
from onnxq.recover.linear import multiply
from onnxq.recover.trials import NOTHING, Choice, Judgement, Strengths, Tried, judge, tabulate
from onnxq.spec import Edge, QuantSpec

Errors = Mapping[tuple[Group, float], float]  # of the readers of a group, by alpha

ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9)
MUL_WORTH = 0.1  # dB on the average over the outputs that an explicit Mul must bring
TRIALS = 64  # at most so many choices are tried at the outputs


def smooth(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with its activations smoothed as far as that raises the SQNR at the outputs; the
    same draft where it does not.

    Only float32 graphs are smoothed. Expects a draft whose ranges are not read yet.
    """
    integers = replace(bench.plan, edges=_without_blocks(bench.plan.edges))
    found = find_groups(draft.graph, integers)
    groups = [g for g in found if g.folded or not g.layout.rank]
    if not groups or not bench.judged:
        return draft, Outcome("smooth", notes=("no activation here can be smoothed",))
    inner = bench.searching
    layouts = {g.tensor: g.layout for g in groups}
    sizes = channel_sizes(draft.graph, layouts, inner.chosen, bench.runtime, bench.workers)
    scales: dict[tuple[Group, float], Array] = {}
    for group in groups:
        weights = weight_sizes(draft.graph, group)
        scales |= {(group, a): factors(sizes[group.tensor].amax, weights, a) for a in ALPHAS}
    table = tabulate(inner, draft.graph, scales)
    errors = {
        (group, alpha): _error(table, group, sizes[group.tensor], alpha)
        for group in groups
        for alpha in (0.0, *ALPHAS)
    }
    choice = _search(table, errors, groups).choice
    graph = table.graph_of(choice) if choice else draft.graph
    verdict = judge(bench, draft.graph, graph)
    if verdict.against:
        choice = {}
    reasons = {g: verdict.against or NOTHING for g in groups}
    outcome = _outcome(errors, choice, reasons, verdict)
    return (replace(draft, graph=graph) if choice else draft), outcome


def _without_blocks(edges: Mapping[Edge, QuantSpec]) -> dict[Edge, QuantSpec]:
    """The edges without activations whose blocks have scales of their own: nothing to smooth."""
    return {e: s for e, s in edges.items() if s.block_size is None or e.input != 0}


def _error(table: Strengths, group: Group, sizes: Sizes, alpha: float) -> float:
    """Expected squared error at the outputs of a group's readers, from rounding that is
    independent from value to value: step^2 / 12 of each weight, and of each activation what its
    range says."""
    nodes, plan, total = node_by_name(table.graph), table.bench.plan, 0.0
    scale = table.scales[group, alpha] if alpha else np.ones(group.layout.channels)
    for name in group.readers:
        weight = multiply(nodes[name], scale).values.astype(np.float64)
        if Edge(name, 0) in plan.edges:
            total += table.range_of(group, alpha).expected_error * float((weight**2).sum())
        spec = plan.edges.get(Edge(name, 1))
        if spec is not None:
            step = scale_of(amax_of(weight, spec), spec).astype(np.float64)
            fan = weight.size / scale.size
            total += fan * float((step**2).mean() / 12 * (sizes.power / scale**2).sum())
    return total


def _search(table: Strengths, errors: Errors, groups: list[Group]) -> Tried:
    """The best choice found: one alpha for all groups or each group's own, then step by step."""
    bench, plain = table.bench, table.run({})
    local = {g: min((0.0, *ALPHAS), key=lambda a: errors[g, a]) for g in groups}
    starts: list[Choice] = [dict.fromkeys(groups, alpha) for alpha in ALPHAS]
    starts.append({g: alpha for g, alpha in local.items() if alpha})
    best, done = plain, 0
    for choice in starts:
        trial = table.run(choice)
        if trial.score > best.score and bench.jury.worst_fall(plain.errors, trial.errors) is None:
            best = trial
        done += 1
        bench.progress(done, TRIALS)
    order = sorted(groups, key=lambda g: -max(errors[g, a] for a in ALPHAS))
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


def _better(bench: Bench, plain: Tried, best: Tried, trial: Tried, group: Group) -> bool:
    """Whether to go on from `trial`: it is better, or as good with a Mul less."""
    if not trial.choice:
        return False
    worth = 0.0
    if not group.folded:
        worth = MUL_WORTH * ((group in trial.choice) - (group in best.choice))
    if trial.score <= best.score + worth:
        return False
    return bench.jury.worst_fall(plain.errors, trial.errors) is None


def _outcome(
    errors: Errors, choice: Choice, reasons: Mapping[Group, str], verdict: Judgement
) -> Outcome:
    gains: dict[str, float] = {}
    undone: dict[str, str] = {}
    notes = []
    for group, reason in reasons.items():
        if group not in choice:
            undone |= dict.fromkeys(group.readers, reason)
            continue
        gain = decibels(errors[group, 0.0], errors[group, choice[group]])
        gains |= dict.fromkeys(group.readers, max(-CEILING, min(gain, CEILING)))
        how = "folded into what writes it" if group.folded else "by a Mul in front of its readers"
        notes.append(f"'{group.tensor}' is smoothed with alpha {choice[group]:g}, {how}")
    return Outcome("smooth", gains, undone, verdict.before, verdict.after, tuple(notes))
