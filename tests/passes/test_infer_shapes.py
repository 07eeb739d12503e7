"""Shapes come from the graph's inputs, not from what an exporter left in the file."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxq.model.graph import from_proto, to_proto
from onnxq.passes import infer_shapes as module
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes

CONV = """(float[N,3,8,8] x) => (float[N,4,6,6] y) {
    a = Conv(x, w)
    y = Relu(a)
}"""
WEIGHTS = {"w": np.ones((4, 3, 3, 3), np.float32)}


def shape_of(graph, name):
    return graph.tensors()[name].shape


def test_shapes_and_types_are_written_onto_the_tensors(graph_of):
    graph = graph_of(CONV, WEIGHTS)
    assert infer_shapes(graph) == 1
    assert shape_of(graph, "a") == ["N", 4, 6, 6]
    assert graph.tensors()["a"].dtype == np.float32


def test_large_weights_stay_out_of_the_serialized_model(graph_of, monkeypatch):
    graph = graph_of(CONV, {"w": np.ones((4, 3, 3, 3), np.float32).repeat(100, 0)})
    sizes = []
    infer = onnx.shape_inference.infer_shapes

    def measured(model, **options):
        sizes.append(model.ByteSize())
        return infer(model, **options)

    monkeypatch.setattr(module.onnx.shape_inference, "infer_shapes", measured)
    infer_shapes(graph)
    assert sizes[0] < 1000 < graph.tensors()["w"].values.nbytes
    assert shape_of(graph, "a") == ["N", 400, 6, 6]
    assert [t.name for t in graph.inputs] == ["x"]


def test_small_integers_are_kept_for_reshape(graph_of):
    graph = graph_of(
        "(float[2,12] x) => (float[a,b,c] y) <int64[3] s = {2,3,4}> {r = Reshape(x,s) y = Relu(r)}"
    )
    infer_shapes(graph)
    assert shape_of(graph, "r") == [2, 3, 4]


def test_the_size_of_an_exporters_example_is_not_believed(graph_of):
    graph = graph_of(CONV, WEIGHTS)
    graph.tensors()["a"].shape = [1, 4, 6, 6]
    infer_shapes(graph)
    assert shape_of(graph, "a") == ["N", 4, 6, 6]


def test_a_size_onnx_only_numbers_becomes_none(graph_of):
    graph = graph_of("(float[N] x) => (int64[1,K] y) {i = NonZero(x) y = Neg(i)}")
    infer_shapes(graph)
    assert shape_of(graph, "i") == [1, None]


def test_what_a_custom_op_claims_is_kept_and_built_upon(graph_of):
    graph = graph_of("(float[N] x) => (float[N,5] y) {a = my.Op(x) b = Relu(a) y = Neg(b)}")
    graph.tensors()["a"].shape, graph.tensors()["a"].dtype = [7, 5], np.float32
    infer_shapes(graph)
    assert shape_of(graph, "a") == [7, 5]
    assert shape_of(graph, "b") == [7, 5]


def test_the_declared_shape_of_an_output_stays(graph_of):
    graph = graph_of("(float[2,3] x) => (float[batch,3] y) {y = Relu(x)}")
    infer_shapes(graph)
    assert shape_of(graph, "y") == ["batch", 3]


def test_a_model_that_cannot_be_inferred_stays_with_a_reason(graph_of, caplog, monkeypatch):
    def refuse(model, **options):
        raise onnx.shape_inference.InferenceError("no shape for this one")

    graph = graph_of(CONV, WEIGHTS)
    monkeypatch.setattr(module.onnx.shape_inference, "infer_shapes", refuse)
    with caplog.at_level(logging.INFO):
        assert infer_shapes(graph) == 0
    assert "no shape for this one" in caplog.text


def test_a_contradiction_inside_the_model_does_not_fail_the_run(graph_of):
    graph = graph_of(
        "(float[2,3] x) => (float[2,3] y) {a = MatMul(x, x) b = Relu(x) y = Add(a, b)}"
    )
    infer_shapes(graph)
    assert shape_of(graph, "b") == [2, 3]


def test_numbers_are_preserved(graph_of, run_graph, rng):
    graph = graph_of(CONV, WEIGHTS)
    feeds = {"x": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)}
    # No node is touched: equal to the bit.
    assert np.array_equal(run_graph(apply(graph, infer_shapes), feeds), run_graph(graph, feeds))


def test_it_is_idempotent_and_leaves_its_input_alone(graph_of):
    graph = graph_of(CONV, WEIGHTS)
    before = to_proto(graph)
    once = apply(graph, infer_shapes)
    assert to_proto(graph) == before
    assert infer_shapes(once) == 0


def test_shapes_survive_saving(graph_of):
    graph = graph_of(CONV, WEIGHTS)
    infer_shapes(graph)
    again = from_proto(to_proto(graph))
    assert isinstance(again.tensors()["w"], gs.Constant)
    assert shape_of(again, "a") == ["N", 4, 6, 6]
