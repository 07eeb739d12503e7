"""The recoveries in the order in which they run; each is a function (bench, draft) -> better draft.

    before the calibration, on the float graph:     channels, equalize, smooth
    with ranges, on the weights:                    scales, round

Bias correction comes last, on the Q/DQ graph (see `bias`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from onnxq.recover.channel_scales import scale_channels
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.equalize import equalize
from onnxq.recover.rounding import round_weights
from onnxq.recover.scales import scales as refine_scales
from onnxq.recover.smooth import smooth

Algorithm = Callable[[Bench, Draft], tuple[Draft, Outcome]]

RESHAPING: Mapping[str, Algorithm] = {
    "channels": scale_channels,
    "equalize": equalize,
    "smooth": smooth,
}
REFINING: Mapping[str, Algorithm] = {"scales": refine_scales, "round": round_weights}


def run(
    algorithms: Mapping[str, Algorithm], names: Sequence[str], bench: Bench, draft: Draft
) -> tuple[Draft, list[Outcome]]:
    """The draft after those of `algorithms` that `names` asks for, and what each brought."""
    outcomes = []
    for name, algorithm in algorithms.items():
        if name in names:
            draft, outcome = algorithm(bench, draft)
            outcomes.append(outcome)
    return draft, outcomes
