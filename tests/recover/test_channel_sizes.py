"""Largest values and powers of channels agree with NumPy over all samples."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.recover.channel_sizes import Channels, channel_sizes
from onnxq.run.runtime import Runtime

BODY = """(float[N,6,5,4] x) => (y) {
    i = Neg(x)  t = Transpose<perm = [0, 2, 3, 1]>(i)  y = Abs(t)}"""


@pytest.mark.parametrize("opset", [17, 18])
def test_sizes_are_those_of_all_values(opset, graph_of, dataset, rng):
    x = rng.standard_normal((7, 6, 5, 4)).astype(np.float32) * np.arange(6)[:, None, None]
    x = x.astype(np.float32)
    graph = graph_of(BODY, opset=opset)
    layouts = {"i": Channels(6, 4), "y": Channels(6)}
    sizes = channel_sizes(graph, layouts, dataset(x), Runtime(), 2)
    for name in layouts:
        np.testing.assert_array_equal(sizes[name].amax, np.abs(x).max(axis=(0, 2, 3)))
        # the runtime adds up 20 squares in float32
        np.testing.assert_allclose(sizes[name].power, (x**2.0).mean(axis=(0, 2, 3)), rtol=1e-5)
    assert sizes["i"].amax[0] == 0


def test_no_tensor_is_no_run(graph_of, dataset, rng):
    assert channel_sizes(graph_of(BODY), {}, dataset(np.zeros((1, 6, 5, 4))), Runtime(), 2) == {}
