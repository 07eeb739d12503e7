"""What is learned so far, as plain arrays: a value that drafts take and files hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from onnxq.arrays import Array
from onnxq.calib.ranges import Range
from onnxq.numerics import Limit, magnitude_of, quantize
from onnxq.passes.insert_qdq import Codes, InsertOptions, Weight, weight_scale
from onnxq.recover.draft import Draft
from onnxq.recover.sites import Site

Group = tuple[str, ...]  # tensors that share one range


@dataclass(frozen=True)
class Learned:
    """codes: of weights. shares: of the ranges of tensors, 1 as they were. shifts: of biases, in
    place of those of the draft."""

    codes: Mapping[Weight, Codes] = field(default_factory=dict)
    shares: Mapping[Group, float] = field(default_factory=dict)
    shifts: Mapping[Site, Array] = field(default_factory=dict)

    def __or__(self, other: Learned) -> Learned:
        return Learned(
            {**self.codes, **other.codes},
            {**self.shares, **other.shares},
            {**self.shifts, **other.shifts},
        )

    def of(self, draft: Draft) -> Draft:
        """The draft with what is learned."""
        assert draft.ranges is not None
        tensors = dict(draft.ranges.tensors)
        for group, share in self.shares.items():
            for name in (n for n in group if n in tensors):
                tensors[name] = _scaled(tensors[name], share)
        return replace(
            draft,
            codes={**draft.codes, **self.codes},
            ranges=replace(draft.ranges, tensors=tensors),
            shifts={**draft.shifts, **self.shifts},
        )


@dataclass(frozen=True)
class Result:
    """Of a block: what is learned, None where it stays as it was, and why it does. before, after:
    dB of what it writes, on samples that judge."""

    learned: Learned | None
    before: float
    after: float
    why: str = ""


def present(draft: Draft, options: InsertOptions, weight: Weight, values: Array) -> Codes:
    """The codes of a weight as it stands."""
    given = draft.codes.get(weight) or options.codes.get(weight)
    if given is not None:
        return given
    scale = weight_scale(values, weight[1], options)
    return Codes(scale, quantize(values, scale, weight[1]))


def _scaled(old: Range, share: float) -> Range:
    limit = _times(old.limit, share)
    low, high = limit if isinstance(limit, tuple) else (None, None)
    method = f"{old.method} learned x{share:.3f}"
    return replace(old, amax=magnitude_of(limit), method=method, low=low, high=high)


def _times(limit: Limit, share: float) -> Limit:
    return (limit[0] * share, limit[1] * share) if isinstance(limit, tuple) else limit * share
