"""Samples kept out of calibration to judge it by, chosen by what they hold, not by where they lie.

So shuffled, reversed or differently split data holds out the same samples, and the ranges read
off the others are the same to the bit.
"""

from __future__ import annotations

from onnxq.calib.data import Dataset

SHARE = 8  # at most one sample in eight is held out


def held_out(dataset: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """(samples to calibrate on, at most `count` samples to judge by).

    With fewer than eight samples none can be spared: then the judges are among the calibrated.
    """
    if count <= 0:
        return dataset, dataset.select([])
    order = content_order(dataset)
    spared = min(count, len(dataset) // SHARE)
    if not spared:
        return dataset, dataset.select(order[:count])
    chosen = set(order[:spared])
    rest = [i for i in range(len(dataset)) if i not in chosen]
    return dataset.select(rest), dataset.select(sorted(chosen))


def content_order(dataset: Dataset) -> list[int]:
    """The samples' numbers in an order that does not depend on where they lie."""
    facts = dataset.facts()
    return sorted(range(len(dataset)), key=lambda i: (facts[i].key, i))
