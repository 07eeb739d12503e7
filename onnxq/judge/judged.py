"""The tensors of a graph that judge what is done to it, such as a recovery.

Outputs, with what their Concats join in place of the whole; in place of outputs whose lengths or
places depend on values, what they are computed from (see `lengths`). Where even that is in the
order of a TopK, as in a decoder behind a selection of queries, rows are matched (see `ranked`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxq.judge.heads import is_scores
from onnxq.judge.lengths import stand_ins, varying
from onnxq.judge.parts import joined
from onnxq.judge.ranked import outputs_in
from onnxq.judge.rankings import ranked_outputs
from onnxq.model.graph import Graph, Tensor, constant_of, producer


def judged_tensors(graph: Graph) -> list[str]:
    """Names of the float32 outputs, with the innermost parts of a Concat in place of the whole, and
    of what stands in for outputs that cannot be compared."""
    unlike = varying(graph)
    whole = outputs_in(ranked_outputs(graph))
    outputs = [t for t in graph.outputs if t.name not in whole]
    found = [s for t in outputs for s in (stand_ins(t, unlike) if t.name in unlike else [t])]
    names = dict.fromkeys(p.name for s in found for p in _innermost(s)) | dict.fromkeys(whole)
    if not names:
        found = [s for t in outputs for s in stand_ins(t, unlike)]
        names = dict.fromkeys(p.name for s in found for p in _innermost(s))
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
