"""Samples that judge a quantized model beside the float one.

Outputs of a detector take megabytes a sample, and a recovery is judged many times: the float ones
are held, and of every other model only the sums of squares that the verdict needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data import Dataset
from onnxq.judge.verdict import Errors, gathered, sums, worst_fall
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.run import runtime as ort

T = TypeVar("T")


@dataclass(frozen=True)
class Jury:
    """The samples, and the judged tensors that the float model gives for each of them.

    scores: those of the tensors that are scores beside other parts.
    """

    samples: Dataset
    reference: Sequence[Mapping[str, Array]]
    scores: Collection[str]
    runtime: ort.Runtime
    workers: int = 2

    def errors(self, graph: Graph) -> Errors:
        """How far the outputs of `graph`, which are the judged tensors, are from the float ones."""

        def error(i: int, values: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
            return sums(self.reference[i], values)

        return gathered(each(graph, self.samples, error, self.runtime, self.workers))

    def worst_fall(self, before: Errors, after: Errors) -> str | None:
        """The judged tensor that argues against `after`; None where none does."""
        return worst_fall(before, after, self.scores)


def each(
    graph: Graph,
    samples: Dataset,
    read: Callable[[int, Mapping[str, Array]], T],
    runtime: ort.Runtime,
    workers: int,
) -> list[T]:
    """What `read(i, outputs)` makes of the outputs of `graph` for each sample."""
    session = ort.session(graphs.to_proto(graph), runtime, threads=1)
    names, fed = [t.name for t in graph.outputs], [t.name for t in graph.inputs]

    def one(i: int) -> T:
        sample = samples.sample(i)
        feeds = {name: np.ascontiguousarray(sample[name]) for name in fed}
        return read(i, dict(zip(names, ort.run(session, names, feeds), strict=True)))

    with ThreadPoolExecutor(workers, "judge") as pool:
        return list(pool.map(one, range(len(samples))))
