"""Which samples every unit is scored on first, and which units are then scored on all of them.

    few         every k-th sample, k = floor(1 / share)
    confirmed   those of the worst third whose damage on these is at least a third of the tenth's
                (or of the last of --top, or of the curve), and all before it; then whatever else
                comes to stand among these worst of the ranking, until all of them are

A few samples are enough to say who is not among the worst, and those who may be are measured as if
nothing had been screened. Of the ten worst of EfficientNet-Lite0 and YOLO11n a quarter of 8, 16 or
32 samples put none below 0.39 times its own tenth, nor behind the first third, by whole outputs.
Scores beside boxes are another matter: of YOLO11n's the damage of a node sits in single samples,
and a quarter of 8 or 16 puts one of its ten worst behind the 42nd to 91st of 93. So these are
scored on all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxq.judge.metrics import LABEL_FREE
from onnxq.sensitivity.options import Options

LEAST_SAMPLES = 2  # to screen on
LEAST_UNITS = 10  # to confirm
PART = 3  # at most one unit in so many is confirmed at first
FACTOR = 3.0  # by which few samples may underrate a damage


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


def screen_of(options: Options, samples: int, scattered: bool = False) -> Screen:
    """What to score first: all samples where the options ask for that, where they are too few to
    leave some out, where the metric is coarse (labels) or sees all at once (a function), or where
    what is scored is `scattered` over samples, as scores beside boxes are."""
    everything = range(samples)
    step = min(1 / options.screen, float(samples)) + 1e-9  # 1 / 0.3333 is to be 3
    few = range(0, samples, int(step))
    if scattered or options.metric not in LABEL_FREE or len(few) < LEAST_SAMPLES:
        few = everything
    return Screen(few, everything)


def confirm(
    screen: Screen,
    options: Options,
    damage: Callable[[Screen], Mapping[str, float]],
    measure: Callable[[Collection[str]], None],
) -> Screen:
    """Measure the worst units on the rest of the samples; the screen with what is confirmed then.

    `damage` gives that of every unit for a screen, `measure` measures units on `screen.rest`.
    """
    if not screen.rest:
        return screen
    top = max(LEAST_UNITS, options.top, *options.curve)
    first = _candidates(sorted(damage(screen).values(), reverse=True), top)
    while True:
        damages = damage(screen)
        count = top if screen.confirmed else first
        worst = sorted(damages, key=lambda name: -damages[name])[:count]
        pending = [name for name in worst if name not in screen.confirmed]
        if not pending:
            return screen
        measure(pending)
        screen = replace(screen, confirmed=screen.confirmed.union(pending))


def _candidates(falling: Sequence[float], top: int) -> int:
    """How many of the worst may be among the `top` worst over all samples."""
    least = falling[min(top, len(falling)) - 1] / FACTOR
    near = sum(damage >= least for damage in falling)
    return max(top, min(near, -(-len(falling) // PART)))
