"""Gram matrices of what weighted ops read: H = sum of x x^T over positions and samples.

The squared error of an op's output whose weight is changed by E is tr(E H E^T), so H is all that
rounding needs to know of the data. Products are float32, at some positions of each sample (see
`columns`); sums over samples are float64, in the order in which samples are given: the result does
not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from onnxq.arrays import Array, Sample, Samples
from onnxq.model.graph import Graph
from onnxq.recover.unroll import Operand, columns
from onnxq.run import runtime as ort
from onnxq.run.program import Program, compile_program, free_steps

Grams = dict[Operand, Array]

POSITIONS, PER_INPUT = 8192, 8  # positions of all samples together: so many, and 8 for each of K


def positions(inputs: int, samples: int) -> int:
    """How many positions of a sample are looked at by an op with `inputs` values a position."""
    return -(-(POSITIONS + PER_INPUT * inputs) // max(1, samples))


def gram(x: Array) -> Array:
    """(groups, K, K) of columns (groups, K, P), of the same type."""
    return np.asarray(np.matmul(x, x.swapaxes(-1, -2)))


def collect_grams(
    graph: Graph,
    readings: Mapping[Operand, int],
    data: Samples,
    parts: Sequence[Sequence[int]],
    *,
    runtime: ort.Runtime | None = None,
    workers: int = 2,
    done: Callable[[], None] = lambda: None,
) -> list[Grams]:
    """For each part of the samples the Gram matrices, (groups, K, K) float64, of `readings`.

    readings: with K of each. parts: indices into `data`. `done()` is called after each sample.
    Raises ModelError for a model that cannot be run, DataError for data that does not fit it.
    """
    names = list(dict.fromkeys(r.tensor for r in readings))
    program = compile_program(graph, names, runtime or ort.Runtime())
    found = []
    with ThreadPoolExecutor(workers, "gram") as pool:
        for part in parts:
            most = {r: positions(inputs, len(part)) for r, inputs in readings.items()}
            sums: Grams = {}
            for grams in _in_order(pool, program, most, data, part, workers):
                for reading, h in grams.items():
                    if reading in sums:
                        sums[reading] += h
                    else:
                        sums[reading] = h.astype(np.float64)
                done()
            found.append(sums)
    return found


def _in_order(
    pool: ThreadPoolExecutor,
    program: Program,
    most: Mapping[Operand, int],
    data: Samples,
    part: Sequence[int],
    workers: int,
) -> Iterator[Grams]:
    """The Gram matrices of one sample after another, `workers` of them held at once."""
    for start in range(0, len(part), workers):
        wave = part[start : start + workers]
        yield from pool.map(lambda i: _of_sample(program, most, data.sample(i)), wave)


def _of_sample(program: Program, most: Mapping[Operand, int], sample: Sample) -> Grams:
    return {
        reading: gram(columns(reading, values[reading.tensor], count))
        for values in passing(program, sample)
        for reading, count in most.items()
        if reading.tensor in values
    }


def passing(program: Program, sample: Sample) -> Iterator[Mapping[str, Array]]:
    """The inputs of a program, then what each of its segments writes of a sample."""
    live = program.checked(sample)
    yield live
    yield from (step(live) for step in free_steps(program))
