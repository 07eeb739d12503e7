"""The recoveries in the order in which they run; each is a function (bench, draft) -> better draft.

    before the calibration, on the float graph:     channels, equalize, smooth
    with ranges, on what is quantized:              scales, round, adaround, bias

A new one is a file of its own and a row here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from onnxq.errors import ModelError
from onnxq.progress import stage
from onnxq.recover import adaround, bias
from onnxq.recover.channel_scales import scale_channels
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.equalize import equalize
from onnxq.recover.rounding import round_weights
from onnxq.recover.scales import scales
from onnxq.recover.smooth import smooth

Algorithm = Callable[[Bench, Draft], tuple[Draft, Outcome]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recovery:
    """name: by which it is asked for. title: by which it is reported. reshapes: whether it changes
    the float graph, before the calibration. auto_bits: bits of weights up to which it runs unasked.
    """

    name: str
    title: str
    run: Algorithm
    reshapes: bool = False
    auto_bits: int = 0


# To nearest, 4 bits are rarely of use: EfficientNet-Lite0 has 76% top-1 with bias correction alone,
# 85% with rounding too, float 90%.
RECOVERIES = (
    Recovery("channels", "channel scales", scale_channels, reshapes=True, auto_bits=8),
    Recovery("equalize", "equalize", equalize, reshapes=True),
    Recovery("smooth", "smooth", smooth, reshapes=True),
    Recovery("scales", "scales", scales),
    Recovery("round", "rounding", round_weights, auto_bits=4),
    Recovery("adaround", adaround.TITLE, adaround.adaround),
    Recovery("bias", bias.TITLE, bias.correct_biases, auto_bits=8),
)


def asked(names: Collection[str], reshaping: bool) -> list[Recovery]:
    """The recoveries of these names that change the float graph, or those that do not."""
    return [r for r in RECOVERIES if r.name in names and r.reshapes == reshaping]


def run(recoveries: Iterable[Recovery], bench: Bench, draft: Draft) -> tuple[Draft, list[Outcome]]:
    """The draft after these recoveries, and what each brought. One that cannot run the model is
    left out: what only makes a model better must not refuse it."""
    outcomes = []
    for recovery in recoveries:
        try:
            with stage(recovery.title):
                draft, outcome = recovery.run(bench, draft)
        except ModelError as e:
            log.warning("%s is left out: %s", recovery.title, e)
            why = f"left out: {e}"
            undone = dict.fromkeys(bench.plan.nodes, why)
            outcome = Outcome(recovery.title, undone=undone, notes=(why,))
        outcomes.append(outcome)
    return draft, outcomes
