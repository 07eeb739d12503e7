"""Which outputs of two models can be compared, and by what.

Floats are compared by how far apart they are (`accuracy.Agreement`). Integers, booleans and text
are names of things, such as classes: they are equal or not. What cannot be compared is left out by
name, with the reason: a sequence, an output whose length depends on the values, as behind a
NonMaxSuppression, and one without a single value to compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import ModelError

Declared = Mapping[str, Sequence[int | str | None]]  # output -> its shape as the model says it


@dataclass(frozen=True)
class Equality:
    """How many values of an output are equal in both models; `+` adds samples up."""

    count: int = 0
    equal: int = 0

    def __add__(self, other: Equality) -> Equality:
        return Equality(self.count + other.count, self.equal + other.equal)

    @property
    def share(self) -> float:
        """0 to 1; NaN without values."""
        return self.equal / self.count if self.count else math.nan

    def as_dict(self) -> dict[str, int]:
        """The counts, for a report."""
        return {"values": self.count, "equal": self.equal}


def is_float(x: Array) -> bool:
    """Whether an output is compared by how far apart its values are."""
    return bool(np.issubdtype(x.dtype, np.floating))


def equality(ref: Array, test: Array) -> Equality:
    """Of two arrays of one shape."""
    return Equality(ref.size, int(np.count_nonzero(ref == test)))


@dataclass
class Comparable:
    """Sorts the outputs of each sample, and keeps why some are left out.

    declared: shapes as the reference declares them. An axis of a fixed length there has it in both
    models, or they are not the same model; of any other axis the length may follow from values.
    """

    declared: Declared = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    _other: dict[str, str] = field(default_factory=dict)  # output -> its two shapes
    _untrue: set[str] = field(default_factory=set)

    def pairs(
        self, ref: Mapping[str, Any], test: Mapping[str, Any]
    ) -> Iterator[tuple[str, Array, Array]]:
        """(name, reference, test) of one sample's outputs that are arrays of one shape; an output
        that was left out in a sample before is not among them. Raises ModelError for one that is
        missing."""
        for name, a in ref.items():
            if name not in test:
                raise ModelError(f"the second model has no output '{name}', only "
                                 f"{', '.join(map(repr, test))}")  # fmt: skip
            b = test[name]
            if name in self.left_out:
                continue
            if not (_is_array(a) and _is_array(b)):
                self.left_out[name] = "it is a sequence or an optional value, no array"
                continue
            x, y = np.asarray(a), np.asarray(b)
            if self._is_untrue(name, x):
                self._untrue.add(name)
            if x.shape == y.shape:
                yield name, x, y
                continue
            shapes = f"shape {x.shape} in one model and {y.shape} in the other"
            if self._fixed(name, x, y):
                self._other.setdefault(name, shapes)
            else:
                self.left_out[name] = f"its length depends on the values: {shapes}"

    def check(self) -> None:
        """Raises ModelError where an output differs in an axis of a fixed length."""
        for name, shapes in self._other.items():
            if name not in self._untrue:
                raise ModelError(f"output '{name}' has {shapes}; compare a model with its own "
                                 "quantized form")  # fmt: skip
            self.left_out.setdefault(name, f"its length depends on the values: {shapes}")

    def _is_untrue(self, name: str, x: Array) -> bool:
        """Whether the reference itself writes another shape than it declares."""
        said = self.declared.get(name, ())
        if len(said) != x.ndim:
            return False
        return any(isinstance(d, int) and d != n for d, n in zip(said, x.shape, strict=True))

    def _fixed(self, name: str, x: Array, y: Array) -> bool:
        """Whether two arrays differ in more than lengths that may follow from values."""
        said = self.declared.get(name, ())
        if x.ndim != y.ndim or len(said) != x.ndim:
            return x.ndim != y.ndim
        lengths = zip(said, x.shape, y.shape, strict=True)
        return any(isinstance(d, int) and d == n != m for d, n, m in lengths)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)
