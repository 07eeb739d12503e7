"""Small samples side by side: each runs by itself, what they write lies one behind the other.

A model of a few features is run in microseconds; to take each sample in hand, bind its buffers and
look at what came of it takes longer. Here a number of samples have places of their own that are
bound once. A batch would be faster still, but adds up in another order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.run import runtime as ort
from onnxq.run.segments import Segment

Types = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]

MOST, BYTES = 64, 1 << 20  # samples side by side, and what they may take in all


class Lanes:
    """Places for a number of samples of segments whose types are planned; for one worker."""

    def __init__(
        self,
        segments: Sequence[tuple[Segment, ort.Session]],
        planned: Types,
        block: Mapping[str, Array],
    ) -> None:
        """`block`: inputs of samples, one behind the other, whose types are those of the rest."""
        self.form = _form(block)
        types = {**self.form, **planned}
        size = sum(dtype.itemsize * prod(shape) for dtype, shape in types.values())
        self.count = min(MOST, BYTES // max(1, size)) if planned else 0
        self._inputs = tuple(block)
        self._arrays = {
            name: np.empty((self.count, *shape), dtype) for name, (dtype, shape) in types.items()
        }
        places = [{name: x[j, ...] for name, x in self._arrays.items()} for j in range(self.count)]
        self._steps = [
            (session, [ort.bind(session, place, segment.outputs) for place in places],
             segment.outputs)
            for segment, session in segments
        ]  # fmt: skip

    def fit(self, block: Mapping[str, Array]) -> bool:
        """Whether samples of this form run here, several at a time."""
        return self.count > 1 and self.form == _form(block)

    def run(self, block: Mapping[str, Array], count: int) -> Iterator[dict[str, Array]]:
        """What each segment writes for the `count` samples of a block; it holds until the next one.

        Raises ModelError where ONNX Runtime refuses the places.
        """
        for start in range(0, count, self.count):
            now = min(self.count, count - start)
            for name in self._inputs:
                self._arrays[name][:now] = block[name][start : start + now]
            for session, bindings, outputs in self._steps:
                for binding in bindings[:now]:
                    ort.run_bound(session, binding)
                yield {name: self._arrays[name][:now] for name in outputs}


def _form(block: Mapping[str, Array]) -> dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]]:
    return {name: (x.dtype, x.shape[1:]) for name, x in block.items()}
