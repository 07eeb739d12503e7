"""Shapes that inference cannot know are read off a run."""

import numpy as np

from onnxq.cost.shapes import shapes_of
from onnxq.run.runtime import Runtime

BODY = """(float[n, 4] x, int64[2] s) => (float[p, q] z) {
    a = Relu(x)
    y = Reshape(a, s)
    z = MatMul(y, w)
}"""


def test_a_shape_that_is_computed_is_read_off_a_run(graph_of):
    graph = graph_of(BODY, {"w": np.ones((2, 3), np.float32)})
    sample = {"x": np.ones((3, 4), np.float32), "s": np.array([6, 2])}
    shapes = shapes_of(graph, (), sample, Runtime())
    assert (shapes["x"], shapes["y"], shapes["z"]) == ((3, 4), (6, 2), (6, 3))
