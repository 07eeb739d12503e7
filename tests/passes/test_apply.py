"""Running passes leaves the input alone, keeps the order and notices a graph that breaks."""

from __future__ import annotations

import onnx_graphsurgeon as gs
import pytest

from onnxq.errors import ModelError
from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply, check, sort
from onnxq.passes.remove_identity import remove_identity

TWO_BRANCHES = """(float[N] x) => (float[N] y) {
    a = Relu(x)
    b = Neg(x)
    c = Identity(a)
    d = Abs(b)
    y = Add(c, d)
}"""


def test_the_input_is_left_alone(graph_of):
    graph = graph_of(TWO_BRANCHES)
    before = to_proto(graph).SerializeToString()
    out = apply(graph, remove_identity)
    assert to_proto(graph).SerializeToString() == before
    assert len(out.nodes) == len(graph.nodes) - 1


def test_the_producer_stays_written_in_the_model(graph_of):
    graph = graph_of(TWO_BRANCHES)
    graph.producer_name = "exporter"
    assert to_proto(apply(graph)).producer_name == "exporter"


def test_sorting_keeps_the_order_of_nodes_that_are_in_order(graph_of):
    graph = graph_of(TWO_BRANCHES)
    sort(graph)
    assert [n.op for n in graph.nodes] == ["Relu", "Neg", "Identity", "Abs", "Add"]


def test_a_pass_is_given_a_sorted_graph_without_unused_nodes(graph_of):
    seen = []

    def look(graph):
        seen.extend(n.op for n in graph.nodes)
        return 0

    graph = graph_of(TWO_BRANCHES.replace("y = Add", "e = Exp(x) y = Add"))
    graph.nodes = graph.nodes[::-1]
    apply(graph, look)
    assert sorted(seen) == ["Abs", "Add", "Identity", "Neg", "Relu"]
    assert seen[-1] == "Add"


def test_sorting_moves_a_node_behind_its_inputs(graph_of):
    graph = graph_of(TWO_BRANCHES)
    graph.nodes = [graph.nodes[i] for i in (4, 0, 1, 2, 3)]
    sort(graph)
    assert [n.op for n in graph.nodes] == ["Relu", "Neg", "Identity", "Abs", "Add"]


def test_sorting_counts_what_a_subgraph_reads(graph_of):
    graph = graph_of(
        """(float[N] x, bool c) => (float[N] y) {
            a = Relu(x)
            y = If(c) <then_branch = t () => (float[N] p) {p = Abs(a)},
                       else_branch = e () => (float[N] q) {q = Neg(a)}>
        }"""
    )
    graph.nodes = graph.nodes[::-1]
    sort(graph)
    assert [n.op for n in graph.nodes] == ["Relu", "If"]


def test_a_graph_deeper_than_the_recursion_limit_is_sorted():
    tensors = [gs.Variable(f"t{i}", "float32", [1]) for i in range(3001)]
    nodes = [
        gs.Node("Relu", f"n{i}", inputs=[tensors[i]], outputs=[tensors[i + 1]]) for i in range(3000)
    ]
    graph = gs.Graph(nodes[::-1], [tensors[0]], [tensors[-1]], opset=17)
    sort(graph)
    assert graph.nodes[0].name == "n0"
    assert graph.nodes[-1].name == "n2999"


def test_a_cycle_is_an_error_that_names_a_node(graph_of):
    graph = graph_of(TWO_BRANCHES)
    graph.nodes[0].name = "loop"
    graph.nodes[0].inputs[0] = graph.outputs[0]
    with pytest.raises(ModelError, match="'loop' depends on itself"):
        sort(graph)


def test_a_pass_that_loses_a_tensor_is_named(graph_of):
    def lose_a_tensor(graph):
        graph.nodes[0].outputs.clear()
        return 1

    with pytest.raises(ModelError, match=r"after pass 'lose_a_tensor' has no origin for .*'a'"):
        apply(graph_of(TWO_BRANCHES), lose_a_tensor)


def test_two_tensors_of_one_name_are_an_error(graph_of):
    graph = graph_of(TWO_BRANCHES)
    graph.nodes[1].outputs[0].name = "a"
    with pytest.raises(ModelError, match="two tensors named 'a'"):
        check(graph, "the model")


def test_a_tensor_written_twice_is_an_error(graph_of):
    graph = graph_of(TWO_BRANCHES)
    graph.nodes[1].outputs[0] = graph.nodes[0].outputs[0]
    with pytest.raises(ModelError, match="writes tensor 'a' more than once"):
        check(graph, "the model")


def test_a_graph_onnx_refuses_is_an_error(graph_of):
    def spoil_an_attribute(graph):
        graph.nodes[0].attrs["no_such_attribute"] = 1
        return 1

    with pytest.raises(ModelError, match=r"not valid ONNX.*no_such_attribute"):
        apply(graph_of(TWO_BRANCHES), spoil_an_attribute)


def test_an_op_onnx_does_not_know_is_let_through(graph_of):
    graph = graph_of("(float[N] x) => (float[N] y) {a = SomePlugin(x) y = Relu(a)}")
    assert [n.op for n in apply(graph).nodes] == ["SomePlugin", "Relu"]


@pytest.mark.parametrize("kind", ["seq(float[2])", "optional(float[2])"])
def test_inputs_and_outputs_that_are_no_tensors_are_refused(graph_of, kind):
    graph = graph_of(f"({kind} x) => ({kind} y) {{ y = Identity(x) }}")
    with pytest.raises(ModelError, match=r"'x' in graph 'g' is of type (sequence|optional)"):
        apply(graph)


def test_values_in_a_branch_that_are_no_tensors_are_refused(graph_of):
    graph = graph_of("""(bool c, float[2] x) => (float[n, 2] y) {
        s = If (c) <
            then_branch = yes () => (seq(float[2]) a) { a = SequenceConstruct(x) },
            else_branch = no () => (seq(float[2]) b) { b = SequenceConstruct(x, x) }
        >
        y = ConcatFromSequence<axis = 0, new_axis = 1>(s)
    }""")
    with pytest.raises(ModelError, match="'a' in graph 'yes' is of type sequence"):
        apply(graph)


def test_a_pass_that_stumbles_over_what_is_no_onnx_says_what_onnx_says(graph_of):
    graph = graph_of("(float[N] x) => (float[N] y) {a = Relu(x) y = Add(a, x)}")
    del graph.nodes[1].inputs[1]

    def add_up(graph):
        return len(graph.nodes[1].inputs[1].shape)

    with pytest.raises(ModelError, match="the model is not valid ONNX"):
        apply(graph, add_up)


def test_a_pass_that_stumbles_over_a_valid_model_is_named(graph_of):
    def divide(graph):
        return 1 // 0

    with pytest.raises(ModelError, match=r"pass 'divide' cannot read the model.*ZeroDivisionError"):
        apply(graph_of(TWO_BRANCHES), divide)
