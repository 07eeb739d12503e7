"""Every node and tensor gets a name of its own, and keeps the one it has."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.name_nodes import name_nodes, unique_name

CHAIN = "(float[N] x) => (float[N] y) {a = Relu(x) b = Relu(a) c = Abs(b) y = Relu(c)}"


def names(graph):
    return [node.name for node in graph.nodes]


def test_unnamed_nodes_are_numbered_by_op(graph_of):
    graph = graph_of(CHAIN)
    assert name_nodes(graph) == 4
    assert names(graph) == ["Relu_0", "Relu_1", "Abs_0", "Relu_2"]


def test_names_that_are_unique_stay(graph_of):
    graph = graph_of(CHAIN)
    graph.nodes[1].name = "/layer/act"
    name_nodes(graph)
    assert names(graph) == ["Relu_0", "/layer/act", "Abs_0", "Relu_2"]


def test_the_second_node_of_a_name_is_renamed(graph_of):
    graph = graph_of(CHAIN)
    for node in graph.nodes:
        node.name = "act"
    assert name_nodes(graph) == 3
    assert names(graph) == ["act", "act_1", "act_2", "act_3"]


def test_a_new_name_avoids_one_that_comes_later(graph_of):
    graph = graph_of(CHAIN)
    graph.nodes[3].name = "Relu_0"
    name_nodes(graph)
    assert names(graph) == ["Relu_0_1", "Relu_1", "Abs_0", "Relu_0"]


def test_a_tensor_that_shares_its_name_is_renamed_and_outputs_keep_theirs():
    x, y = gs.Variable("x", np.float32, [1]), gs.Variable("y", np.float32, [1])
    inner, other = gs.Variable("y", np.float32, [1]), gs.Variable("x", np.float32, [1])
    graph = gs.Graph(
        [
            gs.Node("Relu", "a", inputs=[x], outputs=[inner]),
            gs.Node("Abs", "b", inputs=[inner], outputs=[other]),
            gs.Node("Neg", "c", inputs=[other], outputs=[y]),
        ],
        [x],
        [y],
        opset=17,
    )
    assert name_nodes(graph) == 2
    assert [t.name for t in (x, inner, other, y)] == ["x", "y_1", "x_1", "y"]


def test_an_omitted_input_stays_omitted(graph_of):
    graph = graph_of("(float[N] x) => (float[N] y) <float h = {6.0}> {y = Clip(x, , h)}")
    graph.nodes[0].name = "clip"
    assert name_nodes(graph) == 0
    assert graph.nodes[0].inputs[1].is_empty()


def test_numbers_are_preserved(graph_of, run_graph, rng):
    graph = graph_of(CHAIN)
    feeds = {"x": rng.standard_normal(5).astype(np.float32)}
    # Names do not enter the arithmetic: equal to the bit.
    assert np.array_equal(run_graph(apply(graph, name_nodes), feeds), run_graph(graph, feeds))


def test_it_is_idempotent_and_leaves_its_input_alone(graph_of):
    graph = graph_of(CHAIN)
    before = to_proto(graph)
    once = apply(graph, name_nodes)
    assert to_proto(graph) == before
    assert name_nodes(once) == 0


def test_a_unique_name_counts_up():
    assert unique_name("a", {"b"}) == "a"
    assert unique_name("a", {"a", "a_1"}) == "a_2"
