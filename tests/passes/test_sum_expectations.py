"""A Conv that takes the mean under a Softmax is a product and a sum."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.sum_expectations import sum_expectations

DFL = """(float[1,4,16,9] x) => (float[1,1,4,9] y) {
    t = Softmax<axis = 2>(x) p = Transpose<perm = [0, 2, 1, 3]>(t) [dfl] y = Conv(p, w)
}"""
LEFT_ALONE = {
    "it is padded": (DFL.replace("Conv(p", "Conv<pads = [0, 1, 0, 1]>(p"), (1, 16, 1, 1)),
    "it takes every second one": (DFL.replace("Conv(p", "Conv<strides = [2, 2]>(p"), (1, 16, 1, 1)),
    "it has more channels out": (DFL, (2, 16, 1, 1)),
    "it looks at neighbours": (DFL, (1, 16, 2, 2)),
    "there is no Softmax": (DFL.replace("Softmax<axis = 2>", "Relu"), (1, 16, 1, 1)),
}


def _weight(shape=(1, 16, 1, 1)):
    return {"w": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)}


def test_the_numbers_are_preserved_and_the_pass_is_idempotent(graph_of, run_graph, rng):
    graph = graph_of(DFL, _weight())
    before = to_proto(graph)
    once = apply(graph, sum_expectations)
    assert to_proto(graph) == before
    assert [n.op for n in once.nodes] == ["Softmax", "Transpose", "Mul", "ReduceSum"]
    assert once.nodes[-1].name == "dfl"  # patterns that name it still do
    feeds = {"x": rng.standard_normal((1, 4, 16, 9)).astype(np.float32)}
    for a, b in zip(run_graph(graph, feeds), run_graph(once, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)  # sums of 16 terms in another order
    assert to_proto(apply(once, sum_expectations)) == to_proto(once)


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_others_are_left_alone(graph_of, why):
    body, shape = LEFT_ALONE[why]
    graph = graph_of(body.replace("float[1,1,4,9] y", "float[n,c,h,w] y"), _weight(shape))
    assert to_proto(apply(graph, sum_expectations)) == to_proto(graph)
