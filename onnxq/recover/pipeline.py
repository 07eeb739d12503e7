"""The recoveries in the order in which they run; each is a function (bench, draft) -> better draft.

    before the calibration, on the float graph:     channels, equalize, smooth
    with ranges, on the weights:                    scales, round

Bias correction comes last, on the Q/DQ graph (see `bias`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from onnxq.errors import ModelError
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

log = logging.getLogger(__name__)


def run(
    algorithms: Mapping[str, Algorithm], names: Sequence[str], bench: Bench, draft: Draft
) -> tuple[Draft, list[Outcome]]:
    """The draft after those of `algorithms` that `names` asks for, and what each brought. One that
    cannot run the model is left out: what only makes a model better must not refuse it."""
    outcomes = []
    for name, algorithm in algorithms.items():
        if name not in names:
            continue
        try:
            draft, outcome = algorithm(bench, draft)
        except ModelError as e:
            log.warning("%s is left out: %s", name, e)
            outcome = Outcome(name, notes=(f"left out: {e}",))
        outcomes.append(outcome)
    return draft, outcomes
