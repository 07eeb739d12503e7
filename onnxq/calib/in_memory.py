"""Calibration data that a program has in hand, rather than in files.

    an array                    its first axis is the sample axis, for a model with one input
    a mapping of arrays         by input name, the same
    an iterable of feeds        a mapping, an array, or a sequence of arrays in the order of the
                                inputs: a list, a generator, a DataLoader

An array is whatever `numpy.asarray` takes, such as a tensor on the CPU. A feed of several samples
for a model that takes one at a time is split. A generator is read once, into temporary files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data_numpy import by_sequence
from onnxq.calib.data_sources import RESET, Record, Source, as_array, spool
from onnxq.errors import DataError
from onnxq.imports import users_code

WHERE = "the data given"
# Shapes of the inputs by name: None for an axis that is free, or for a rank that is not declared.
Shapes = Mapping[str, tuple[int | None, ...] | None]


@dataclass(frozen=True)
class InHand:
    """Row i of stacked arrays, with a leading axis of 1. firsts: of inputs that are fed back, a row
    for each sequence."""

    arrays: Mapping[str, Array]
    firsts: Mapping[str, Array] = field(default_factory=dict)
    stacked = True

    def __len__(self) -> int:
        return min(len(x) for x in self.arrays.values())

    def record(self, i: int) -> Record:
        return {name: x[i : i + 1] for name, x in self.arrays.items()}

    def where(self, i: int) -> str:
        return WHERE


def in_memory(data: object, inputs: Shapes, limit: int | None, fed: Collection[str] = ()) -> Source:
    """The source that `data` is, for a model with these inputs; raises DataError.

    limit: how many feeds of an iterable are read. fed: further inputs, which are fed back.
    """
    names = list(inputs)
    if isinstance(data, Mapping):
        return _stacked({str(name): as_array(x, _named(name)) for name, x in data.items()}, fed)
    if is_array(data):
        return _stacked({_only(names): as_array(data, WHERE)}, fed)
    if not isinstance(data, Iterable):
        raise DataError(
            f"calibration data is a path, an array, a mapping of arrays or an iterable of feeds, "
            f"not {type(data).__name__}"
        )
    more = (*fed, RESET)
    return spool(_split(islice(_feeds(data, names, more), limit), inputs), WHERE)


def is_array(value: object) -> bool:
    """Whether a value is an array, or something that makes itself one, as tensors do."""
    return isinstance(value, np.ndarray) or hasattr(value, "__array__")


def _stacked(arrays: Mapping[str, Array], fed: Collection[str]) -> InHand:
    if not arrays:
        raise DataError(f"{WHERE} holds no arrays; give one for each input of the model")
    for name, x in arrays.items():
        if not x.ndim:
            raise DataError(f"{_named(name)} is a single value; the first axis is the sample axis")
    arrays, firsts = by_sequence(arrays, fed)
    if len({len(x) for x in arrays.values()}) > 1:
        lengths = ", ".join(f"'{name}' {len(x)}" for name, x in arrays.items())
        raise DataError(f"{WHERE} holds different numbers of samples by input: {lengths}")
    return InHand(arrays, firsts)


def _named(name: object) -> str:
    return f"{WHERE}, '{name}'"


def _only(names: Sequence[str]) -> str:
    if len(names) != 1:
        listed = ", ".join(f"'{n}'" for n in names)
        raise DataError(
            f"an array is data for a model with one input, this one has {len(names)}: {listed}; "
            "give a mapping with an array for each"
        )
    return names[0]


def _feeds(data: Iterable[Any], names: Sequence[str], more: Sequence[str]) -> Iterator[Record]:
    """What the iterable yields, as mappings by input name; `more` may be in them."""
    with users_code(f"{WHERE} failed", DataError):
        for i, item in enumerate(data):
            yield _feed(item, names, more, i)


def _feed(item: Any, names: Sequence[str], more: Sequence[str], i: int) -> Record:
    if isinstance(item, Mapping):
        # A batch of a DataLoader has labels too: what is no input is left out if all inputs are in.
        known = {name: item[name] for name in (*names, *more) if name in item}
        return known if len(names) <= len(known.keys() & {*names}) else item
    if is_array(item):
        return {_only(names): item}
    if isinstance(item, Sequence) and not isinstance(item, (str, bytes)):
        arrays = [x for x in item if is_array(x)]
        if len(arrays) >= len(names):  # what follows the inputs are labels
            return dict(zip(names, arrays, strict=False))
    raise DataError(
        f"{WHERE} yields {type(item).__name__} as record {i}; yield a dict of input name to array"
    )


def _split(feeds: Iterable[Record], inputs: Shapes) -> Iterator[Record]:
    """The feeds, those of several samples as one feed a sample where the model takes one at a
    time."""
    ranks = {name: len(shape) for name, shape in inputs.items() if shape and shape[0] == 1}
    for i, feed in enumerate(feeds):
        arrays = {name: as_array(x, f"{WHERE}, record {i}, '{name}'") for name, x in feed.items()}
        batches = {len(x) for name, x in arrays.items() if x.ndim and x.ndim == ranks.get(name)}
        if len(ranks) == len(inputs) and len(batches) == 1 and (rows := batches.pop()) > 1:
            each = {name for name, x in arrays.items() if x.ndim and len(x) == rows}
            for k in range(rows):  # what is not one a row is of the first
                first = arrays.items() if k == 0 else ()
                once = {name: x for name, x in first if name not in each}
                yield {name: arrays[name][k : k + 1] for name in each} | once
        else:
            yield arrays
