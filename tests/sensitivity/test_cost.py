"""Parameters and MACs of the weighted ops, by hand."""

from __future__ import annotations

import numpy as np

from onnxq.run.segments import shapes_at
from onnxq.sensitivity.cost import macs, parameters


def cost(graph_of, body, **weights):
    graph = graph_of(body, {k: np.zeros(v, np.float32) for k, v in weights.items()})
    shapes = shapes_at(graph, {"x": tuple(graph.inputs[0].shape)})
    node = graph.nodes[-1]
    return parameters(node), macs(node, shapes)


def test_a_convolution_multiplies_its_kernel_at_every_output(graph_of):
    body = (
        "(float[1,4,8,8] x) => (float[1,6,4,4] y) {y = Conv<strides=[2,2],pads=[1,1,1,1]>(x,w,b)}"
    )
    assert cost(graph_of, body, w=(6, 4, 3, 3), b=(6,)) == (6 * 4 * 9 + 6, 6 * 16 * 4 * 9)


def test_a_depthwise_convolution_reads_one_channel_each(graph_of):
    body = "(float[1,4,8,8] x) => (float[1,4,6,6] y) {y = Conv<group=4>(x,w)}"
    assert cost(graph_of, body, w=(4, 1, 3, 3)) == (36, 4 * 36 * 9)


def test_a_deconvolution_multiplies_its_kernel_at_every_input(graph_of):
    body = "(float[1,4,5,5] x) => (float[1,6,10,10] y) {y = ConvTranspose<strides=[2,2]>(x,w)}"
    assert cost(graph_of, body, w=(4, 6, 2, 2)) == (96, 4 * 25 * 6 * 4)


def test_matrix_products_multiply_rows_by_columns(graph_of):
    body = "(float[7,4] x) => (float[7,6] y) {y = MatMul(x,w)}"
    assert cost(graph_of, body, w=(4, 6)) == (24, 7 * 6 * 4)
    body = "(float[4,7] x) => (float[7,6] y) {y = Gemm<transA=1>(x,w)}"
    assert cost(graph_of, body, w=(4, 6)) == (24, 7 * 6 * 4)


def test_other_ops_multiply_nothing(graph_of):
    assert cost(graph_of, "(float[7,4] x) => (float[7,4] y) {y = Relu(x)}") == (0, 0)
