"""Which samples every unit is scored on first, and which units are then scored on all of them.

    few         every k-th sample, k = floor(1 / share)
    confirmed   the worst third by their damage on these, then whatever else comes to stand among
                the worst ten (or --top, or the curve's) of the ranking, until all of those are

A ranking of a quarter of 32 samples is nearly that of all (rank correlation 0.99): enough to say
who is not among the worst, and those who may be are measured as if nothing had been screened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from onnxq.sensitivity.metrics import LABEL_FREE
from onnxq.sensitivity.options import Options

LEAST_SAMPLES = 2  # to screen on
PART, LEAST_UNITS = 3, 10  # one in PART of the units is confirmed, and so many at least


@dataclass(frozen=True)
class Screen:
    """few: samples that every unit is scored on. everything: all of them. confirmed: names of the
    units that are scored on all."""

    few: range
    everything: range
    confirmed: frozenset[str] = frozenset()

    def of(self, unit: str) -> range:
        """The samples that a unit is scored on."""
        return self.everything if unit in self.confirmed else self.few

    @property
    def rest(self) -> tuple[int, ...]:
        """The samples that only confirmed units are scored on."""
        return tuple(i for i in self.everything if i not in self.few)


def screen_of(options: Options, samples: int) -> Screen:
    """What to score first: all samples where the options ask for that, where they are too few to
    leave some out, or where the metric is coarse (labels) or sees all at once (a function)."""
    everything = range(samples)
    step = min(1 / options.screen, float(samples)) + 1e-9  # 1 / 0.3333 is to be 3
    few = range(0, samples, int(step))
    if options.metric not in LABEL_FREE or len(few) < LEAST_SAMPLES:
        few = everything
    return Screen(few, everything)


def confirm(
    screen: Screen,
    options: Options,
    units: Collection[str],
    damage: Callable[[Screen], Mapping[str, float]],
    measure: Callable[[Collection[str]], None],
) -> Screen:
    """Measure the worst units on the rest of the samples; the screen with what is confirmed then.

    `damage` gives that of every unit for a screen, `measure` measures units on `screen.rest`.
    """
    if not screen.rest:
        return screen
    top = max(LEAST_UNITS, options.top, *options.curve)
    count = max(top, -(-len(units) // PART))
    while True:
        found = damage(screen)
        worst = sorted(found, key=lambda name: -found[name])[:count]
        pending = [name for name in worst if name not in screen.confirmed]
        if not pending:
            return screen
        measure(pending)
        screen = replace(screen, confirmed=screen.confirmed.union(pending))
        count = top
