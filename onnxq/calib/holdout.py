"""Samples kept out of calibration to judge it by, chosen by what they hold, not by where they lie.

So shuffled, reversed or differently split data holds out the same samples, and the ranges read
off the others are the same to the bit.
"""

from __future__ import annotations

from math import prod

import numpy as np

from onnxq.calib.data import Dataset
from onnxq.model.graph import Graph
from onnxq.run.macs import work
from onnxq.run.segments import shapes_at

KEY = 4  # words of a key, 32 bytes
SHARE = 8  # at most one sample in eight is held out
USUAL = 8  # where nobody says how many
RICH = 16  # more than the usual number is one sample in sixteen, so that few data stay as they are
MOST = 64
HELD = 1 << 22  # values of the float outputs that are held
SECOND = 10**10  # multiply-accumulates that two cores do in about a second


def held_out(dataset: Dataset, count: int | None) -> tuple[Dataset, Dataset]:
    """(samples to calibrate on, at most `count` samples to judge by; None is 8).

    With fewer than eight samples none can be spared: then the judges are among the calibrated.
    """
    count = USUAL if count is None else count
    if count <= 0:
        return dataset, dataset.select([])
    chosen = spared(dataset, count, len(dataset) // SHARE)
    if not chosen:
        judges = [i for unit in by_content(dataset) for i in unit]
        return dataset, dataset.select(judges[:count])
    kept = set(range(len(dataset))).difference(chosen)
    return dataset.select(sorted(kept)), dataset.select(sorted(chosen[:count]))


def spared(dataset: Dataset, count: int, most: int) -> list[int]:
    """The numbers of `count` samples, by what they hold, or of as many as `most` allows: of whole
    sequences, which may be some more, none that is longer than what `most` leaves."""
    chosen: list[int] = []
    for unit in by_content(dataset):
        if len(chosen) >= min(count, most):
            break
        if len(chosen) + len(unit) <= most:
            chosen += unit
    return chosen


def affordable(graph: Graph, dataset: Dataset) -> int:
    """How many samples to judge by where nobody says: 8, and of more than 128 samples one in 16, up
    to 64, to what a second's inference allows and to what the float outputs may hold.

    Counted, not timed: the same on every machine, and in any order of the data.
    """
    many = min(len(dataset) if dataset.feedback else len(dataset) // RICH, MOST)
    if many <= USUAL:
        return USUAL
    alike = {id(shapes): shapes for shapes in dataset.shapes()}  # of samples read together
    largest = max(alike.values(), key=lambda found: sum(map(prod, found.values())))
    shapes = shapes_at(graph, largest)
    takes = work(graph, shapes)
    if takes is None:
        return USUAL
    held = sum(prod(shapes[t.name]) for t in graph.outputs if t.name in shapes)
    return max(USUAL, min(many, SECOND // max(takes, 1), HELD // max(held, 1)))


def content_order(dataset: Dataset) -> list[int]:
    """The samples' numbers in an order that does not depend on where they lie."""
    keys = b"".join(facts.key for facts in dataset.facts())
    words = np.frombuffer(keys, ">u8").reshape(-1, KEY)
    order: list[int] = np.lexsort(words.T[::-1]).tolist()  # equal ones stay as they lie
    return order


def by_content(dataset: Dataset) -> list[list[int]]:
    """The numbers of the samples of each sequence, in such an order; of samples that follow no
    other each alone."""
    place = {i: k for k, i in enumerate(content_order(dataset))}
    return sorted(dataset.sequences(), key=lambda unit: [place[i] for i in unit])
