"""A record of calibration data as a model takes it: axes and types, checked against its inputs.

Dtypes: a wider type of the same kind takes the narrower one (float16 for a float32 input, int32 for
int64). Anything else is refused: uint8 for float32 has most often missed its preprocessing, and
float64 or int64 would be cut without anyone knowing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data_sources import RESET, Record, Source
from onnxq.errors import DataError


@dataclass(frozen=True)
class InputInfo:
    """One input of a model: its shape, None for a dynamic axis or, in its place, for a rank that
    the model does not declare; and its dtype."""

    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        axes = ", ".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.dtype} ({axes})"


def fit(source: Source, i: int, inputs: Mapping[str, InputInfo], batch: int) -> dict[str, Array]:
    """Record i with its axes and dtypes as the model takes them; raises DataError."""
    return fitted(source.record(i), source, i, inputs, batch)


def fitted(
    record: Record, source: Source, i: int, inputs: Mapping[str, InputInfo], batch: int
) -> dict[str, Array]:
    """The record as the model takes it; raises DataError."""
    where = source.where(i)
    if RESET in record and RESET not in inputs:  # it says where sequences begin
        record = {name: x for name, x in record.items() if name != RESET}
    if record.keys() != inputs.keys():
        listed = ", ".join(f"'{name}'" for name in inputs)
        unknown = [name for name in record if name not in inputs]
        missing = [name for name in inputs if name not in record]
        what = f"lacks input '{missing[0]}'" if missing else f"holds '{unknown[0]}'"
        more = f" but holds '{unknown[0]}'" if missing and unknown else ""
        raise DataError(f"{where} {what}{more}; the model's inputs are {listed}")
    return {
        name: _fit_one(record[name], info, f"{where}, input '{name}'", source.stacked, batch)
        for name, info in inputs.items()
    }


def _fit_one(x: Array, info: InputInfo, where: str, stacked: bool, batch: int) -> Array:
    if info.shape is None:  # as it is, in a stack a batch of one
        return _typed(x, info, where)
    given, rank = x, len(info.shape)
    if x.ndim == rank + 1 and len(x) == 1:
        x = x[0]
    elif x.ndim == rank - 1 and not stacked:
        x = x[None]
    lengths = info.shape if batch == 1 else (1, *info.shape[1:])
    fits = x.ndim == rank and all(n in (None, m) for n, m in zip(lengths, x.shape, strict=True))
    if not fits:
        axes = ["samples", *map(str, given.shape[1:])] if stacked else map(str, given.shape)
        found = f"({', '.join(axes)})"
        advice = "the first axis is the sample axis" if stacked else "write it in that shape"
        raise DataError(f"{where}: expected {info}, found {given.dtype} {found}; {advice}")
    return _typed(x, info, where)


def _typed(x: Array, info: InputInfo, where: str) -> Array:
    if x.dtype == info.dtype:
        return np.asarray(x, order="C")
    if x.dtype.kind != info.dtype.kind or not np.can_cast(x.dtype, info.dtype, "safe"):
        raise DataError(
            f"{where}: expected {info.dtype}, found {x.dtype}; preprocess the samples as for "
            f"inference and save them with .astype(np.{info.dtype})"
        )
    return np.asarray(x, info.dtype, order="C")
