"""Tensors counted where they are: on a GPU, only the counts come back.

    bin(x) = bits of float32(x) >> 16

A tensor that a session left on the device is bound to a second, small model as pairs of uint16: a
binding takes an address and a type, so the bits are read as they are, with no arithmetic that
could round. That model takes the upper of each pair, adds them to the counts (ScatterElements) and
keeps minimum and maximum (ReduceMin, ReduceMax), all with kernels that ONNX Runtime has for CUDA
too. A tensor of 16 bits is counted by its 65,536 patterns, whose bins follow afterwards. Counts
stay on the device, 256 KB a tensor, until they are asked for.

What a device counts is compared with what `Accumulator` counts before it is relied on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from onnxq.arrays import Array
from onnxq.calib.histogram import (
    BINS,
    EMPTY,
    Accumulator,
    Histogram,
    from_counts,
    histogram_of,
    merge,
)
from onnxq.errors import ModelError
from onnxq.run import providers
from onnxq.run import runtime as ort
from onnxq.run.on_device import OrtValue, run_on

State = dict[str, Array | OrtValue]

# Opset 16 has the reduction of ScatterElements; CUDA has kernels of that age for all of these.
# A NaN takes no part in minimum and maximum: what they were before stands in for it.
FLOATS = """
<ir_version: 8, opset_import: ["" : 16]>
count_floats (uint16[N, 2] bits, float[N] values, int32[65536] counts, float[1] low, float[1] high)
    => (int32[65536] counts_out, float[1] low_out, float[1] high_out)
<int64 upper = {1}>
{
    upper_half = Gather<axis = 1>(bits, upper)
    bin = Cast<to = 6>(upper_half)
    size = Shape(bin)
    ones = ConstantOfShape<value = int32[1] {1}>(size)
    counts_out = ScatterElements<axis = 0, reduction = "add">(counts, bin, ones)
    number = Equal(values, values)
    not_above = Where(number, values, low)
    least = ReduceMin<keepdims = 1>(not_above)
    low_out = Min(low, least)
    not_below = Where(number, values, high)
    greatest = ReduceMax<keepdims = 1>(not_below)
    high_out = Max(high, greatest)
}
"""
PATTERNS = """
<ir_version: 8, opset_import: ["" : 16]>
count_patterns (uint16[N] bits, int32[65536] counts) => (int32[65536] counts_out)
{
    pattern = Cast<to = 6>(bits)
    size = Shape(bits)
    ones = ConstantOfShape<value = int32[1] {1}>(size)
    counts_out = ScatterElements<axis = 0, reduction = "add">(counts, pattern, ones)
}
"""
FLOAT, HALF, BFLOAT = "tensor(float)", "tensor(float16)", "tensor(bfloat16)"
NARROW: Mapping[str, Any] = {HALF: np.float16, BFLOAT: ml_dtypes.bfloat16}
MOST = 2**31 - 1  # what a counter on the device holds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counters:
    """The sessions that count tensors on a device, by ONNX type; shared by workers."""

    device: str
    sessions: Mapping[str, ort.Session]


def compile_counters(runtime: ort.Runtime) -> Counters:
    """The sessions that count where `runtime` runs models.

    A type whose counts are not those of an `Accumulator`, or cannot be taken there, is left out
    with a warning: such tensors then come back whole. Raises RuntimeMissing as `runtime.session`.
    """
    device = ort.resolved(runtime.provider)
    sessions: dict[str, ort.Session] = {}
    for kinds, text in ((FLOAT,), FLOATS), ((HALF, BFLOAT), PATTERNS):
        try:
            session = ort.session(onnx.parser.parse_model(text), runtime, threads=1)
            right = _counts_right(Counters(device, dict.fromkeys(kinds, session)), kinds[0])
        except ModelError as e:  # what fails here would fail on the user's data
            log.info("%s cannot count %s: %s", device, kinds[0], e)
            right = False
        if right:
            sessions |= dict.fromkeys(kinds, session)
        else:
            log.warning("%s cannot count %s right: they come back whole", device, kinds[0])
    return Counters(device, sessions)


def _counts_right(counters: Counters, kind: str) -> bool:
    """Whether zeros, numbers, NaN and then every bin are counted as on the host."""
    dtype, bits = (np.float32, np.uint32) if kind == FLOAT else (NARROW[kind], np.uint16)
    numbers = np.random.default_rng(0).normal(size=BINS).astype(dtype)
    mixed = np.concatenate([np.zeros(BINS, dtype), numbers, np.full(1, np.nan, dtype)])
    every = (np.arange(BINS, dtype=np.int64) << (16 if kind == FLOAT else 0)).astype(bits)
    batches = [mixed, numbers, every.view(dtype)]
    accumulator = DeviceAccumulator(counters)
    accumulator.observe(_on_device(mixed, counters.device))
    right = accumulator.histogram() == histogram_of(mixed)
    for batch in batches[1:]:
        accumulator.observe(_on_device(batch, counters.device))
    return right and accumulator.histogram() == histogram_of(*batches)


def _on_device(x: Array, device: str) -> OrtValue:
    return providers.onnxruntime().OrtValue.ortvalue_from_numpy(x, device, 0)


class DeviceAccumulator:
    """An `Accumulator` that takes tensors on a device too, and counts them there.

    One thread at a time, as the other; the type of a tensor may change from one to the next.
    """

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self.host = Accumulator()
        self.fetched = EMPTY
        self.states: dict[str, State] = {}
        self.waiting = 0  # values counted on the device since its counters were zero

    def observe(self, x: Array | OrtValue) -> None:
        """Add the values of `x`: an array, or a tensor on the device of any shape and type."""
        if isinstance(x, np.ndarray):
            self.host.observe(x)
            return
        kind, size = x.data_type(), prod(x.shape())
        session = self.counters.sessions.get(kind)
        if session is None or size > MOST:
            self.host.observe(x.numpy())
            return
        if not size:
            return
        if self.waiting + size > MOST:
            self._fetch()
        self.waiting += size
        state = self.states.get(kind) or _zero(kind)
        self.states[kind] = _counted(self.counters.device, session, x, state)

    def histogram(self) -> Histogram:
        """What was counted so far, as a value."""
        self._fetch()
        return merge(self.fetched, self.host.histogram())

    def _fetch(self) -> None:
        """Take over what the device has counted, which starts from zero again."""
        for kind, state in self.states.items():
            found = _histogram(kind, {name: _fetched(value) for name, value in state.items()})
            self.fetched = merge(self.fetched, found)
        self.states.clear()
        self.waiting = 0


def _fetched(value: Array | OrtValue) -> Array:
    return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())


def _zero(kind: str) -> State:
    counts: State = {"counts": np.zeros(BINS, np.int32)}
    if kind != FLOAT:
        return counts
    low, high = np.full((2, 1), [[np.inf], [-np.inf]], np.float32)
    return counts | {"low": low, "high": high}


def _counted(device: str, session: ort.Session, x: OrtValue, state: State) -> State:
    """`state` with the values of `x` added, on the device."""
    size, binding = prod(x.shape()), session.io_binding()
    views: dict[str, tuple[Any, list[int]]] = {"bits": (np.uint16, [size])}
    if "low" in state:
        views = {"bits": (np.uint16, [size, 2]), "values": (np.float32, [size])}
    for name, (dtype, shape) in views.items():
        binding.bind_input(name, device, 0, dtype, shape, x.data_ptr())
    return run_on(session, binding, state, {name: f"{name}_out" for name in state}, device)


def _histogram(kind: str, counted: Mapping[str, Array]) -> Histogram:
    """The histogram of what was counted by the bins of floats or the patterns of halves."""
    counts = counted["counts"].astype(np.int64)
    if kind == FLOAT:
        low, high = counted["low"], counted["high"]
    else:
        (found,) = np.nonzero(counts)
        values = found.astype(np.uint16).view(NARROW[kind]).astype(np.float32)
        by_pattern, counts = counts[found], np.zeros(BINS, np.int64)
        np.add.at(counts, values.view(np.uint32) >> 16, by_pattern)
        low = high = values[~np.isnan(values)]
    least, greatest = np.min(low, initial=np.inf), np.max(high, initial=-np.inf)
    return from_counts(counts, float(least), float(greatest))
