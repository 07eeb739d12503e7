"""The tensors of a graph that judge what is done to it, such as a recovery.

Outputs, with what their Concats join in place of the whole; in place of outputs whose lengths or
places depend on values, what they are computed from (see `lengths`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxq.judge.heads import is_scores
from onnxq.judge.lengths import stand_ins, varying
from onnxq.judge.parts import joined
from onnxq.model.graph import Graph, Tensor, constant_of, producer


def judged_tensors(graph: Graph) -> list[str]:
    """Names of the float32 outputs, with the innermost parts of a Concat in place of the whole, and
    of what stands in for outputs that cannot be compared."""
    unlike = varying(graph)
    names: dict[str, None] = {}
    for output in graph.outputs:
        standing = stand_ins(output, unlike) if output.name in unlike else [output]
        names |= dict.fromkeys(t.name for s in standing for t in _innermost(s))
    if not names:
        standing = [s for output in graph.outputs for s in stand_ins(output, unlike)]
        names |= dict.fromkeys(t.name for s in standing for t in _innermost(s))
    return list(names)


def score_parts(graph: Graph) -> frozenset[str]:
    """Those of the judged tensors that are scores beside other parts of an output, as a detector
    has them: written by Sigmoid or Softmax, if only moved since."""
    scores = set()
    for output in graph.outputs:
        parts = list(_innermost(output))
        for part in parts if len(parts) > 1 else ():
            if is_scores(part):
                scores.add(part.name)
    return frozenset(scores)


def _innermost(tensor: Tensor) -> Iterator[Tensor]:
    """The parts, and their parts, down to what no Concat writes; constants are none."""
    if producer(tensor) is None or tensor.dtype != np.float32 or constant_of(tensor) is not None:
        return
    concat = joined(tensor)
    if concat is None:
        yield tensor
        return
    for part in concat.inputs:
        yield from _innermost(part)
