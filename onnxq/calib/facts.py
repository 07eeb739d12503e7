"""What reading a sample once shows: its digest, its place in an order, its soundness.

Found for several samples of one shape at a time, so that small ones take little of Python.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.stats import digest_head

PROBES = 4096  # values of each input that the key looks at
SKETCH = 64  # values of each float input by which a sample is held against the next


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one sample.

    digest: SHA-256 of it as `stats.sample_digest` has it. key: what samples are sorted by, of a few
    of its values. shapes: of the inputs. nonfinite: inputs with NaN or infinite values; masked:
    those where -inf is the only such value. constant: whether a float input is all one value.
    sketch: a few values of the float inputs, float32.
    """

    digest: str
    key: bytes
    shapes: Mapping[str, tuple[int, ...]]
    nonfinite: tuple[str, ...]
    masked: tuple[str, ...]
    constant: bool
    sketch: Array = field(compare=False, repr=False)


def facts_of(block: Mapping[str, Array]) -> list[Facts]:
    """The facts of samples that lie one behind the other: by input, a contiguous array with one
    more axis in front."""
    inputs = sorted(block.items())
    count = len(inputs[0][1]) if inputs else 1
    shapes = {name: x.shape[1:] for name, x in block.items()}
    flat = {name: x.reshape(count, -1) if x.size else x.reshape(count, 0) for name, x in inputs}
    bodies = [(digest_head(name, x[0]), *_bytes(flat[name])) for name, x in inputs]
    probes = [(name.encode(), *_bytes(_few(x, PROBES))) for name, x in flat.items()]
    nonfinite, masked, constant = _unsound(flat, count)
    sketches = _sketches(flat, count)
    return [
        Facts(
            _hash(bodies, j).hexdigest(),
            _hash(probes, j).digest(),
            shapes,
            tuple(nonfinite.get(j, ())),
            tuple(masked.get(j, ())),
            j in constant,
            sketches[j],
        )
        for j in range(count)
    ]


def _hash(parts: Sequence[tuple[bytes, memoryview, int]], j: int) -> hashlib._Hash:
    """SHA-256 of what stands in front of each input of sample j, and of its bytes."""
    found = hashlib.sha256()
    for head, values, size in parts:
        found.update(head)
        found.update(values[j * size : (j + 1) * size])
    return found


def _bytes(flat: Array) -> tuple[memoryview, int]:
    """The bytes of all samples, and how many each has."""
    rows = np.ascontiguousarray(flat)
    return rows.reshape(-1).view(np.uint8).data, rows.shape[1] * rows.itemsize


def _few(flat: Array, most: int) -> Array:
    """About so many values of every sample, or all of fewer than twice as many."""
    return flat[:, :: max(1, flat.shape[1] // most)]


def _sketches(flat: Mapping[str, Array], count: int) -> Array:
    """A few values of the float inputs of every sample, a row each."""
    floats = [x for x in flat.values() if x.dtype.kind == "f"]
    few = [_few(x, SKETCH).astype(np.float32) for x in floats]
    return np.concatenate(few, axis=1) if few else np.zeros((count, 0), np.float32)


def _unsound(
    flat: Mapping[str, Array], count: int
) -> tuple[dict[int, list[str]], dict[int, list[str]], set[int]]:
    """Sample -> inputs that are not finite; -> those of them with -inf alone; samples with a float
    input of one value."""
    nonfinite: dict[int, list[str]] = {}
    masked: dict[int, list[str]] = {}
    constant: set[int] = set()
    for name, x in flat.items():
        if x.dtype.kind != "f" or not x.shape[1]:
            continue
        for j in np.flatnonzero(~np.isfinite(x).all(axis=1)).tolist():
            nonfinite.setdefault(j, []).append(name)
            if (np.isfinite(x[j]) | (x[j] == -np.inf)).all():
                masked.setdefault(j, []).append(name)
        if x.shape[1] > 1:
            alike = np.flatnonzero(x[:, 0] == x[:, -1]).tolist()
            constant |= {j for j in alike if (x[j] == x[j, 0]).all()}
    return nonfinite, masked, constant
