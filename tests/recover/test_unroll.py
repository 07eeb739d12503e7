"""The product of matrices that an op is taken for is what ONNX Runtime computes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onnxq.model.graph import from_proto
from onnxq.recover.gram import gram
from onnxq.recover.unroll import columns, reading_of

ALL = 1 << 30  # more positions than there are


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def text(shape):
    return f"float[{','.join(map(str, shape))}]"


def unrolled(graph, x, w, index=1, most=ALL):
    """(weight, input) as matrices, of the node that writes the output."""
    (node,) = graph.nodes
    reading, form = reading_of(node, index)
    assert reading.tensor == "x"
    np.testing.assert_array_equal(form.tensor(form.matrices(w)), w)
    return form.matrices(w), columns(reading, x, most)


@st.composite
def convolutions(draw):
    """(input, weight, attributes) of a Conv of one to three dimensions."""
    rank = draw(st.integers(1, 3))

    def each(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * rank))

    groups = draw(st.sampled_from([1, 2, 4]))
    inner, outer = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 2]))
    kernel, strides, dilations = each(1, 3), each(1, 3), each(1, 2)
    attributes = {"group": groups, "strides": strides, "dilations": dilations}
    auto_pad = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto_pad == "NOTSET":
        attributes["pads"] = each(0, 2) + each(0, 2)
    sizes = [(k - 1) * d + 1 + n for k, d, n in zip(kernel, dilations, each(0, 4), strict=True)]
    x = normal(draw(st.sampled_from([1, 2])), groups * inner, *sizes)
    return x, normal(groups * outer, inner, *kernel, seed=1), attributes, auto_pad


def written(op, x, w, attributes, auto_pad="NOTSET"):
    listed = [f"{k} = {list(v) if isinstance(v, tuple) else v}" for k, v in attributes.items()]
    listed += [f'auto_pad = "{auto_pad}"'] if auto_pad != "NOTSET" else []
    out = ",".join("ABCDE"[: x.ndim])
    return f"({text(x.shape)} x) => (float[{out}] y) {{y = {op}<{', '.join(listed)}>(x, w)}}"


@settings(max_examples=60, deadline=None)
@given(problem=convolutions())
def test_a_conv_is_the_product_of_its_matrices(graph_of, run_graph, problem):
    x, w, attributes, auto_pad = problem
    # ONNX Runtime refuses dilations beside SAME
    assume(not auto_pad.startswith("SAME") or set(attributes["dilations"]) == {1})
    graph = graph_of(written("Conv", x, w, attributes, auto_pad), {"w": w})
    (y,) = run_graph(graph, {"x": x})
    a, b = unrolled(graph, x, w)
    product = (a @ b).reshape(w.shape[0], len(x), *y.shape[2:]).swapaxes(0, 1)
    # sums of at most 3 * 27 float32 terms near 1, in another order
    np.testing.assert_allclose(product, y, atol=2e-5)


def energy(a, b):
    """Sum of the squares of a product, through the Gram matrix."""
    return float(((a @ gram(b)) * a).sum())


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": (2, 2)},
        {"strides": (2, 3), "pads": (1, 0, 1, 2), "group": 2},
        {"strides": (2, 2), "dilations": (2, 1), "output_padding": (1, 0)},
        {"pads": (3, 3, 3, 3), "group": 4},
    ],
)
def test_a_conv_transpose_has_the_energy_of_its_matrices(graph_of, run_graph, attributes):
    x, w = normal(2, 8, 6, 5), normal(8, 3, 3, 3, seed=1)
    graph = graph_of(written("ConvTranspose", x, w, attributes), {"w": w})
    (y,) = run_graph(graph, {"x": x})
    a, b = unrolled(graph, x, w)
    assert math.prod(b.shape[2:]) == y.size // y.shape[1]
    # sums of about 4000 squares in float32
    assert energy(a, b) == pytest.approx(float((y.astype(np.float64) ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("node", "x", "w", "index"),
    [
        ("MatMul(x, w)", (2, 5, 6), (6, 4), 1),
        ("MatMul(x, w)", (6,), (6, 4), 1),
        ("MatMul(x, w)", (2, 5, 6), (6,), 1),
        ("MatMul(x, w)", (3, 2, 5, 6), (2, 6, 4), 1),
        ("MatMul(x, w)", (3, 1, 5, 6), (2, 6, 4), 1),
        ("MatMul(x, w)", (3, 2, 5, 6), (3, 1, 6, 4), 1),
        ("MatMul(x, w)", (5, 6), (2, 6, 4), 1),
        ("MatMul(w, x)", (2, 6, 5), (4, 6), 0),
        ("MatMul(w, x)", (6,), (4, 6), 0),
        ("MatMul(w, x)", (3, 2, 6, 5), (2, 4, 6), 0),
        ("MatMul(w, x)", (6, 5), (6,), 0),
        ("Gemm(x, w)", (5, 6), (6, 4), 1),
        ("Gemm<transA = 1>(x, w)", (6, 5), (6, 4), 1),
        ("Gemm<transB = 1>(x, w)", (5, 6), (4, 6), 1),
        ("Gemm<transA = 1, transB = 1>(x, w)", (6, 5), (4, 6), 1),
        ("Gemm(w, x)", (6, 5), (4, 6), 0),
        ("Gemm<transA = 1>(w, x)", (6, 5), (6, 4), 0),
        ("Gemm<transB = 1>(w, x)", (5, 6), (4, 6), 0),
    ],
)
def test_a_matrix_product_has_the_energy_of_its_matrices(graph_of, run_graph, node, x, w, index):
    values, weight = normal(*x), normal(*w, seed=1)
    graph = graph_of(f"({text(x)} x) => (float y) {{y = {node}}}", {"w": weight})
    graph.outputs[0].shape = None
    (y,) = run_graph(graph, {"x": values})
    a, b = unrolled(graph, values, weight, index)
    # sums of a hundred squares in float32
    assert energy(a, b) == pytest.approx(float((y.astype(np.float64) ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("node", "x", "w"),
    [
        ("Conv<pads = [1,1,1,1], group = 2>(x, w)", (2, 8, 20, 20), (8, 4, 3, 3)),
        ("ConvTranspose<strides = [2,2]>(x, w)", (1, 8, 9, 9), (8, 4, 3, 3)),
        ("MatMul(x, w)", (2, 300, 8), (8, 4)),
    ],
)
def test_of_many_positions_some_are_taken(graph_of, node, x, w):
    values, weight = normal(*x), normal(*w, seed=1)
    graph = graph_of(
        f"({text(x)} x) => (float[{','.join('ABCD'[: len(x)])}] y) {{y = {node}}}", {"w": weight}
    )
    _, every = unrolled(graph, values, weight)
    _, some = unrolled(graph, values, weight, most=60)
    assert 15 <= some.shape[-1] <= 60
    for whole, part in zip(every, some, strict=True):
        known = {column.tobytes() for column in whole.T}
        assert all(column.tobytes() in known for column in part.T)


def test_taking_some_positions_of_a_conv_transpose_sees_every_tap(graph_of):
    x, w = np.ones((1, 2, 16, 16), np.float32), normal(2, 2, 2, 2)
    graph = graph_of(written("ConvTranspose", x, w, {"strides": (2, 2)}), {"w": w})
    _, some = unrolled(graph, x, w, most=100)
    assert np.all(some.sum(axis=-1) > 0)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("ConvTranspose<output_shape = [9,9]>(x, w)", "padding is given by the shape"),
        ("Add(x, w)", "Add is not a product of matrices"),
        ("MatMul(x, x)", "does not multiply an input by a weight"),
    ],
)
def test_other_ops_are_declined_with_the_reason(graph_of, node, reason):
    graph = graph_of(
        f"(float[1,8,8,8] x) => (float[A,B,C,D] y) {{y = {node}}}", {"w": normal(8, 8, 8, 8)}
    )
    assert reason in reading_of(graph.nodes[0], 1)


@pytest.mark.parametrize(
    ("body", "shape", "weight"),
    [
        ("y = MatMul(x, w)", (0, 8), (8, 4)),
        ("y = Conv(x, w)", (0, 8, 6, 6), (4, 8, 3, 3)),
        ("y = ConvTranspose<strides = [2, 2]>(x, w)", (0, 8, 6, 6), (8, 4, 3, 3)),
    ],
)
def test_an_empty_tensor_has_no_columns_and_adds_nothing(body, shape, weight):
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g ({text(("N", *shape[1:]))} x) => (float y) '
        f"{{ {body} }}"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(*weight), "w"))
    (node,) = from_proto(model).nodes
    reading, form = reading_of(node, 1)
    found = columns(reading, normal(*shape), 100)
    assert found.shape == (form.matrix[0], form.matrix[2], 0)
    assert not gram(found).any()
