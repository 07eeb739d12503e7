"""A model that is fed back what it wrote for the sample before, as it is on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

from onnxq.arrays import Sample, Sequential

Run = Callable[[Sample], dict[str, Any]]


class ClosedLoop:
    """A model over samples in their order: in the place of the states that a sample has, those that
    it wrote itself, where the sample follows the one before. The first of a sequence, or of a part
    of one, has the states that it came with."""

    def __init__(self, run: Run, samples: Sequential) -> None:
        self._run, self._samples = run, samples
        self._state: dict[str, Any] = {}

    def __call__(self, i: int, sample: Sample) -> dict[str, Any]:
        """What the model writes for `sample`, the i-th; call it for each in its turn."""
        if self._samples.follows(i):
            sample = {**sample, **self._state}
        found = self._run(sample)
        self._state = {name: found[out] for out, name in self._samples.feedback.items()}
        return found


def feeds_back(samples: object) -> TypeGuard[Sequential]:
    """Whether a model is fed back what it writes for these samples."""
    return isinstance(samples, Sequential) and bool(samples.feedback)


def looped(run: Run, samples: object) -> Callable[[int, Sample], dict[str, Any]]:
    """What the model writes for sample i: fed back its own states, where there are any."""
    return ClosedLoop(run, samples) if feeds_back(samples) else lambda _, sample: run(sample)
