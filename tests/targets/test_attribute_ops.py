"""Ops that carry their ranges as attributes: which inputs are quantized, which values follow."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.errors import PlanError
from onnxq.spec import Edge, QuantSpec
from onnxq.targets import placement
from onnxq.targets.attribute_ops import attributes_of
from onnxq.targets.options import PlanOptions

SPARSE = PlanOptions(attribute_op=("SparseConvolution",))
BOTH = PlanOptions(attribute_op=("SparseConvolution", "Add"))
TENSOR, CHANNEL = QuantSpec(), QuantSpec("int8", "channel", 0)

# The first stages of CUDA-CenterPoint's network: conv_input, a residual block, conv2, the end.
NETWORK = """(float[N,16] x, int32[N,4] at) => (float[N,16] y, float[1,16,4] dense) {
    [conv_input] a = SparseConvolution<out_channels = 16>(x, w, b, at)
    [conv1] c = SparseConvolution<out_channels = 16>(a, w, b, at)
    [conv2] d = SparseConvolution<out_channels = 16>(c, w, b, at)
    [add] e = Add(d, a)
    [relu] f = Relu(e)
    [conv3] g = SparseConvolution<out_channels = 16>(f, w, b, at)
    [extra] h = SparseConvolution<out_channels = 16>(g, w, b, at)
    [scatter] dense = ScatterDense(h, at)
    [end] y = SparseConvolution<out_channels = 16>(g, w, b, at)
}"""
WEIGHTS = {
    "w": np.ones((16, 3, 3, 3, 16), np.float32),
    "b": np.zeros(16, np.float32),
}


@pytest.fixture
def network(graph_of):
    graph = graph_of(NETWORK, WEIGHTS)
    for node, name in zip(graph.nodes, NAMES, strict=True):
        node.name = name
    return graph


NAMES = ("conv_input", "conv1", "conv2", "add", "relu", "conv3", "extra", "scatter", "end")


def precisions(graph, options):
    """Node -> (precision, output_precision) under the plan for `options`."""
    plan = placement.plan(graph, options, "m")
    amax = dict.fromkeys(graph.tensors(), 1.0)
    found = {}
    for node in graph.nodes:
        if node.op in plan.attribute_ops:
            values = attributes_of(graph, node, plan, amax, [1.0])
            found[node.name] = (values["precision"], values["output_precision"])
    return found


def test_features_are_quantized_per_tensor_and_the_weight_per_output_channel(network):
    plan = placement.plan(network, SPARSE, "m")
    assert plan.edges[Edge("conv1", 0)] == TENSOR
    assert plan.edges[Edge("conv1", 1)] == CHANNEL
    assert {e.input for e in plan.edges} == {0, 1}
    assert plan.rules["conv1"] == "attribute-SparseConvolution"
    assert plan.attribute_ops == ("SparseConvolution",)
    assert "add" not in plan.nodes


def test_what_is_handed_to_int8_alone_is_handed_on_in_int8(network):
    assert precisions(network, SPARSE) == {
        "conv_input": ("int8", "fp16"),  # the Add reads it too
        "conv1": ("int8", "int8"),
        "conv2": ("int8", "fp16"),  # for the Add
        "conv3": ("int8", "int8"),  # two readers, both INT8
        "extra": ("int8", "fp16"),  # for the dense part
        "end": ("int8", "fp16"),  # an output of the model
    }


def test_precisions_are_those_of_the_public_export_of_centerpoint(network):
    # export-scn.py: conv_input and the first block in fp16; its Add hands on int8.
    options = PlanOptions(
        attribute_op=BOTH.attribute_op,
        skip=("name:conv_input", "name:conv1", "name:conv2", "name:add"),
    )
    assert precisions(network, options) == {
        "conv_input": ("fp16", "fp16"),
        "conv1": ("fp16", "fp16"),
        "conv2": ("fp16", "fp16"),
        "add": ("fp16", "int8"),  # through the Relu
        "conv3": ("int8", "int8"),
        "extra": ("int8", "fp16"),
        "end": ("int8", "fp16"),
    }


def test_an_add_has_a_range_for_each_input_and_both_are_observed_in_one(network):
    plan = placement.plan(network, BOTH, "m")
    assert {e for e in plan.edges if e.node == "add"} == {Edge("add", 0), Edge("add", 1)}
    assert [set(group) for group in plan.tied] == [{"d", "a"}]
    add = network.nodes[3]
    found = attributes_of(network, add, plan, {"d": 3.0, "a": 3.0}, [])
    assert found == {
        "input0_dynamic_range": 3.0,
        "input1_dynamic_range": 3.0,
        "precision": "int8",
        "output_precision": "int8",
    }


def test_a_skipped_node_is_fp16_and_has_no_ranges(network):
    plan = placement.plan(
        network, PlanOptions(attribute_op=SPARSE.attribute_op, skip=("name:conv3",)), "m"
    )
    assert plan.skipped["conv3"] == "--skip name:conv3"
    assert attributes_of(network, network.nodes[5], plan, {}, []) == {
        "precision": "fp16",
        "output_precision": "int8",
    }


def test_the_target_decides_over_the_other_nodes(graph_of):
    graph = graph_of(
        """(float[1,16,8,8] x) => (float[1,16,8,8] y) {
            a = SparseConvolution(x, s)
            y = Conv<pads = [1,1,1,1]>(a, w)
        }""",
        {"s": WEIGHTS["w"], "w": np.ones((16, 16, 3, 3), np.float32)},
    )
    for i, node in enumerate(graph.nodes):
        node.name = f"{node.op}{i}"
    plan = placement.plan(graph, SPARSE, "m")
    assert plan.rules == {
        "SparseConvolution0": "attribute-SparseConvolution",
        "Conv1": "weighted-Conv",
    }
    # a Conv may be an attribute op as well
    conv = placement.plan(graph, PlanOptions(attribute_op=("Conv",)), "m")
    assert conv.rules == {"Conv1": "attribute-Conv"}


def test_features_behind_a_reshape_are_observed_before_it(graph_of):
    graph = graph_of(
        """(float[N,4,4] x) => (float[N,16] y)
        <int64[2] shape = {-1, 16}> {
            a = Reshape(x, shape)
            y = SparseConvolution(a, w)
        }""",
        WEIGHTS,
    )
    graph.nodes[1].name = "conv"
    assert placement.plan(graph, SPARSE, "m").source == {"a": "x"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("(float[N,16] x, float[16,27] v) => (float[N,16] y) {y = SparseConvolution(x, v)}",
         "computed-weight"),
        ("(int32[N,16] x) => (float[N,16] y) {y = SparseConvolution(x, w)}", "not-float"),
        ("(float[N,16] x) => (float[N,16] y) {y = Add(x, b)}", "constant-input"),
    ],
)  # fmt: skip
def test_a_node_without_a_range_stays_fp16_with_the_reason(graph_of, body, reason):
    graph = graph_of(body, WEIGHTS)
    node = graph.nodes[0]
    node.name = "n"
    plan = placement.plan(graph, PlanOptions(attribute_op=(node.op,)), "m")
    assert plan.skipped["n"].startswith(reason)
    assert attributes_of(graph, node, plan, {}, [])["precision"] == "fp16"


def test_an_op_type_that_the_model_lacks_is_named_with_those_it_has(network):
    with pytest.raises(
        PlanError, match="--attribute-op Sparse: the model has no such op; it has Add,"
    ):
        placement.plan(network, PlanOptions(attribute_op=("Sparse",)), "m")


def test_a_weight_whose_first_axis_is_not_its_channels_is_refused(graph_of):
    graph = graph_of(
        """(float[N,16] x) => (float[N,32] y) {
            y = SparseConvolution<out_channels = 32>(x, w) }""",
        WEIGHTS,
    )
    graph.nodes[0].name = "conv0"
    with pytest.raises(
        PlanError, match=r"'conv0' has shape \(16, 3, 3, 3, 16\).*32 output channels"
    ):
        placement.plan(graph, SPARSE, "m")


def test_another_scheme_for_an_attribute_op_is_refused(network):
    options = PlanOptions(attribute_op=SPARSE.attribute_op, scheme_for=("name:conv1=fp8",))
    with pytest.raises(PlanError, match=r"'conv1' fp8; an attribute op computes in INT8"):
        placement.plan(network, options, "m")


def test_a_spec_that_no_attribute_says_is_refused(network):
    plan = placement.plan(network, SPARSE, "m")
    changed = {**plan.edges, Edge("conv1", 0): QuantSpec("fp8")}
    fp8 = type(plan)("m", "tensorrt", changed, attribute_ops=plan.attribute_ops)
    with pytest.raises(
        PlanError, match="input 0 of 'conv1' is fp8 per-tensor; an attribute op takes"
    ):
        attributes_of(network, network.nodes[1], fp8, {"a": 1.0}, [1.0])


def test_a_range_that_is_missing_says_how_to_get_it(network):
    plan = placement.plan(network, SPARSE, "m")
    with pytest.raises(PlanError, match="no range for tensor 'a'; run 'onnxq calibrate'"):
        attributes_of(network, network.nodes[1], plan, {}, [1.0])
