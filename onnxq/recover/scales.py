"""Refine scales by what their ops write, and keep what does the model's outputs good.

Weights take other scales (see `weight_scales`) and activations other ranges (`range_scales`) where
that lowers the error of the ops that read them by `LEAST` on samples that judge. But the error of
an op is not the damage to the model: on YOLO11n the ranges of least local error cost six points of
mAP. So a change is a proposal. All of a kind are tried at the outputs; where one of these is worse
the proposals are divided, those that promise most first, and the halves tried on their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onnxq.calib.collect import collect
from onnxq.calib.observed import activation_specs
from onnxq.calib.ranges import Range, Ranges, range_of
from onnxq.judge.verdict import Errors, sqnr
from onnxq.numerics import magnitude_of
from onnxq.passes.insert_qdq import Codes, Weight
from onnxq.recover import range_scales, weight_scales
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.keeping import Kept, halves, keep
from onnxq.recover.products import Product, groups_of, products_of, with_grams

LEAST = 0.1  # dB at the op: less cannot show at an output
TRIALS = 10  # of proposals at the outputs
NO_JUDGE = "no scale was refined: the model has no float32 output to judge by"
NO_GAIN = "its scales are the best for its output"


@dataclass(frozen=True)
class _Proposal:
    """New scales of one weight, or a share of the range of tensors that have one range.

    gain: dB at `nodes`, which read it.
    """

    gain: float
    nodes: tuple[str, ...]
    codes: Mapping[Weight, Codes] = field(default_factory=dict)
    tensors: tuple[str, ...] = ()
    share: float = 1.0


def scales(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with other scales of weights and other ranges, and what they brought.

    Weights whose codes the draft has already are left as they are. Raises ModelError for a model
    that cannot be run, DataError for samples that do not fit it.
    """
    if draft.ranges is None:
        raise ValueError("scales are refined after ranges are read")
    products, undone = products_of(draft.graph, bench.plan)
    if not bench.judged:
        return draft, Outcome("scales", undone=undone, notes=(NO_JUDGE,))
    weights, skipped = _weights(bench, draft, products)
    refined = range_scales.refined(bench, draft.graph, draft.ranges)
    ranges = [_Proposal(r.gain, r.nodes, {}, r.tensors, r.share) for r in refined]
    undone |= skipped
    return _settled(bench, draft, [_ranked(weights), _ranked(ranges)], undone)


def _ranked(proposals: Iterable[_Proposal]) -> list[_Proposal]:
    """Those that are worth a trial, from the greatest gain down."""
    return sorted((p for p in proposals if p.gain >= LEAST), key=lambda p: (-p.gain, p.nodes))


def _weights(
    bench: Bench, draft: Draft, products: Sequence[Product]
) -> tuple[list[_Proposal], dict[str, str]]:
    """New scales of weights; node -> why its weight has none."""
    given = {**bench.insert.codes, **draft.codes}
    free = [p for p in products if p.weight not in given and p.spec.row.fixed_scale is None]
    groups, undone = groups_of(free, bench)
    found = []
    for product, fit, held in with_grams(groups, bench, draft, bench.chosen):
        codes, gain = weight_scales.refined(product, fit, held, bench.insert)
        found.append(_Proposal(gain, product.nodes, {product.weight: codes}))
        if gain < LEAST:
            undone |= dict.fromkeys(product.nodes, NO_GAIN)
    return found, undone


def _settled(
    bench: Bench, draft: Draft, kinds: Sequence[list[_Proposal]], undone: dict[str, str]
) -> tuple[Draft, Outcome]:
    """The draft with the proposals that no output argues against."""
    before, fallen = bench.errors(draft), bench.jury.worst_fall

    def errors_of(proposals: Sequence[_Proposal]) -> Errors:
        return bench.errors(_with(draft, proposals))

    kept = keep(kinds, before, errors_of, fallen, halves, TRIALS)
    undone = undone | kept.reasons(lambda p: p.nodes)
    if kept.items and fallen(before, kept.after) is not None:  # each step lost a little
        kept = Kept((), before, before)
    gains = {node: p.gain for p in reversed(kept.items) for node in p.nodes}
    undone = {node: why for node, why in undone.items() if node not in gains}
    ranges = [p for p in kept.items if p.tensors]
    notes = tuple(_note(p) for p in ranges)
    better = _described(bench, _with(draft, kept.items) if kept.items else draft, ranges)
    return better, Outcome("scales", gains, undone, sqnr(before), sqnr(kept.after), notes)


def _with(draft: Draft, proposals: Iterable[_Proposal]) -> Draft:
    """The draft with these proposals; what its ranges clip is not known yet."""
    assert draft.ranges is not None
    codes, tensors = dict(draft.codes), dict(draft.ranges.tensors)
    for proposal in proposals:
        codes |= proposal.codes
        for name in proposal.tensors:
            tensors[name] = _scaled(tensors[name], proposal.share)
    return replace(draft, codes=codes, ranges=replace(draft.ranges, tensors=tensors))


def _scaled(old: Range, share: float) -> Range:
    limit = range_scales.scaled(old.limit, share)
    low, high = limit if isinstance(limit, tuple) else (None, None)
    method = f"{old.method} refined x{share:.2f}"
    return replace(old, amax=magnitude_of(limit), method=method, low=low, high=high)


def _described(bench: Bench, draft: Draft, proposals: Sequence[_Proposal]) -> Draft:
    """The draft with what its new ranges clip and cost on the samples fitted to."""
    names = [name for p in proposals for name in p.tensors]
    if not names:
        return draft
    assert draft.ranges is not None
    fitted, specs = bench.chosen.select(list(bench.fit)), activation_specs(draft.graph, bench.plan)
    stats = collect(draft.graph, names, fitted, runtime=bench.runtime, workers=bench.workers)
    tensors = dict(draft.ranges.tensors)
    for proposal in proposals:
        spec = next(specs[name] for name in proposal.tensors if name in specs)
        for name in proposal.tensors:
            old = tensors[name]
            tensors[name] = range_of(stats[name], old.limit, spec, old.method)
    return replace(draft, ranges=Ranges(draft.ranges.model, tensors))


def _note(proposal: _Proposal) -> str:
    names = ", ".join(f"'{name}'" for name in proposal.tensors)
    return f"the range of {names} times {proposal.share:.2f}"
