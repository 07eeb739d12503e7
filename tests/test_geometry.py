"""Where weighted ops have their channels, against what ONNX Runtime computes."""

import numpy as np
import pytest

from onnxq.model.geometry import CONVOLUTIONS, geometry_of

CASES = {
    "Conv": ("Conv", (6, 4, 3, 3), (2, 4, 7, 7)),
    "grouped Conv": ("Conv<group = 2>", (6, 2, 3), (2, 4, 7)),
    "depthwise Conv": ("Conv<group = 4>", (8, 1, 3), (2, 4, 7)),
    "ConvTranspose": ("ConvTranspose", (4, 6, 3, 3), (2, 4, 5, 5)),
    "grouped ConvTranspose": ("ConvTranspose<group = 2>", (4, 3, 3), (2, 4, 5)),
    "Gemm": ("Gemm", (4, 6), (3, 4)),
    "turned Gemm": ("Gemm<transB = 1>", (6, 4), (3, 4)),
    "MatMul": ("MatMul", (4, 6), (2, 3, 4)),
    "batched MatMul": ("MatMul", (2, 4, 6), (2, 3, 4)),
}


@pytest.fixture(params=CASES, name="case")
def _case(request, graph_of, run_graph, rng):
    """The node, its weight, x, and what it computes of x and a weight."""
    op, weight_shape, shape = CASES[request.param]
    w, x = (rng.normal(size=s).astype(np.float32) for s in (weight_shape, shape))

    def graph(weight):
        named = ",".join(map(str, shape))
        return graph_of(f"(float[{named}] x) => (float y) {{[n] y = {op}(x, w)}}", {"w": weight})

    return graph(w).nodes[0], w, x, lambda x, w: run_graph(graph(w), {"x": x})[0]


def axis_of(node):
    """The axis of inputs and outputs that holds the channels."""
    return 1 if node.op in CONVOLUTIONS else -1


def along(values, array, axis):
    wide = [1] * array.ndim
    wide[axis] = -1
    return values.reshape(wide)


def test_channels_are_those_of_the_input_and_of_the_output(case):
    node, w, x, compute = case
    geometry, axis = geometry_of(node), axis_of(node)
    assert geometry.input_channels(w.shape) == x.shape[axis]
    assert geometry.output_channels(w.shape) == compute(x, w).shape[axis]


def test_a_factor_a_channel_of_the_weight_is_one_of_the_output(case, rng):
    node, w, x, compute = case
    geometry, axis = geometry_of(node), axis_of(node)
    y = compute(x, w)
    factors = 2.0 ** rng.integers(-3, 4, y.shape[axis]).astype(np.float32)  # which are exact
    scaled = w * geometry.spread(factors, geometry.outputs, w.shape)
    np.testing.assert_array_equal(compute(x, scaled), y * along(factors, y, axis))


def test_a_factor_a_channel_of_the_weight_is_one_of_the_input(case, rng):
    node, w, x, compute = case
    geometry, axis = geometry_of(node), axis_of(node)
    factors = 2.0 ** rng.integers(-3, 4, x.shape[axis]).astype(np.float32)
    scaled = w * geometry.spread(factors, geometry.inputs, w.shape)
    expected = compute(x * along(factors, x, axis), w)
    np.testing.assert_array_equal(compute(x, scaled), expected)


@pytest.mark.parametrize(("turned", "outputs"), [(0, 0), (1, 1)])
def test_the_first_operand_of_a_gemm_has_its_rows_where_transa_says(graph_of, turned, outputs):
    node = graph_of(f"(float[4,4] x) => (float y) {{y = Gemm<transA = {turned}>(x, w)}}",
                    {"w": np.ones((4, 6), np.float32)}).nodes[0]  # fmt: skip
    geometry = geometry_of(node, 0)
    assert (geometry.outputs, geometry.inputs) == (outputs, 1 - outputs)
