"""Attributes take the place of Q/DQ at attribute ops, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import AttributeProto

from onnxq.errors import PlanError
from onnxq.model.graph import constant_of, node_by_name, to_proto
from onnxq.numerics import amax_of
from onnxq.passes.apply import apply
from onnxq.passes.insert_qdq import InsertOptions, insert_qdq
from onnxq.passes.write_attributes import write_attributes
from onnxq.spec import Edge, QuantSpec
from onnxq.targets import placement
from onnxq.targets.options import PlanOptions

OPTIONS = PlanOptions(attribute_op=("SparseConvolution",))
AMAX = {"x": 2.0, "a": 4.0, "c": 8.0}
BODY = """(float[1,16,8,8] x) => (float[1,16,8,8] y, float[1,16,8,8] z) {
    a = Relu(x)
    c = SparseConvolution<subm = 1>(a, s)
    y = Conv<pads = [1,1,1,1]>(a, w)
    z = SparseConvolution(c, s)
}"""


@pytest.fixture
def graph(graph_of, rng):
    weights = {
        "s": rng.normal(size=(16, 3, 3, 3, 16)).astype(np.float32),
        "w": rng.normal(size=(16, 16, 3, 3)).astype(np.float32),
    }
    made = graph_of(BODY, weights)
    for i, node in enumerate(made.nodes):
        node.name = f"n{i}"
    return made


def written(graph, amax=AMAX, options=OPTIONS, insert=None):
    plan = placement.plan(graph, options, "m")
    out = graph.copy()
    insert_qdq(out, plan, amax, insert)
    write_attributes(out, graph, plan, amax, insert)
    return out


def test_attributes_say_the_ranges_and_the_inputs_are_as_they_were(graph):
    out = node_by_name(written(graph))
    for name, source, handed in (("n1", "a", "int8"), ("n3", "c", "fp16")):
        node = out[name]
        assert [t.name for t in node.inputs] == [source, "s"]
        assert node.attrs["input_dynamic_range"] == AMAX[source]
        assert node.attrs["precision"] == "int8"
        assert node.attrs["output_precision"] == handed
        weight = constant_of(node.inputs[1])
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, constant_of(graph.tensors()["s"]))
        ranges = np.array(node.attrs["weight_dynamic_ranges"], np.float32)
        np.testing.assert_array_equal(ranges, np.abs(weight).max(axis=(1, 2, 3, 4)))
    assert out["n1"].attrs["subm"] == 1


def test_attributes_are_written_as_onnx_floats_and_strings(graph):
    node = next(n for n in to_proto(written(graph)).graph.node if n.name == "n1")
    kinds = {a.name: a.type for a in node.attribute}
    assert kinds["input_dynamic_range"] == AttributeProto.FLOAT
    assert kinds["weight_dynamic_ranges"] == AttributeProto.FLOATS
    assert kinds["precision"] == kinds["output_precision"] == AttributeProto.STRING


def test_a_dense_op_on_the_same_tensor_keeps_its_q_dq(graph):
    out = written(graph)
    conv = node_by_name(out)["n2"]
    assert [t.inputs[0].op for t in conv.inputs[:2]] == ["DequantizeLinear"] * 2
    pairs = [n.name for n in out.nodes if n.op == "DequantizeLinear"]
    assert len(pairs) == 2  # none is left over from the sparse ops


def test_a_weight_range_is_read_as_the_options_say_and_never_zero(graph):
    weight = graph.tensors()["s"].values
    weight[3] = 0
    node = node_by_name(written(graph))["n1"]
    ranges = node.attrs["weight_dynamic_ranges"]
    assert 0 < ranges[3] < min(ranges[:3])
    half = InsertOptions(weight_range=lambda w, spec: amax_of(w, spec) / 2)
    found = node_by_name(written(graph, insert=half))["n1"].attrs["weight_dynamic_ranges"]
    np.testing.assert_allclose(found, np.array(ranges) / 2, rtol=1e-6)  # float32


def test_one_scale_for_a_weight_is_written_for_every_channel(graph):
    plan = placement.plan(graph, OPTIONS, "m")
    edges = {**plan.edges, Edge("n1", 1): QuantSpec()}
    plan = type(plan)("m", "tensorrt", edges, plan.rules, attribute_ops=plan.attribute_ops)
    out = graph.copy()
    insert_qdq(out, plan, AMAX)
    write_attributes(out, graph, plan, AMAX)
    largest = float(np.abs(graph.tensors()["s"].values).max())
    assert node_by_name(out)["n1"].attrs["weight_dynamic_ranges"] == [largest] * 16


def test_a_skipped_node_says_fp16_alone_and_that_of_an_earlier_run_is_replaced(graph):
    graph.nodes[1].attrs["precision"] = "int8"
    options = PlanOptions(attribute_op=OPTIONS.attribute_op, skip=("name:n1",))
    attrs = node_by_name(written(graph, options=options))["n1"].attrs
    assert dict(attrs) == {"subm": 1, "precision": "fp16", "output_precision": "int8"}


def test_a_missing_range_leaves_the_graph_as_it_was(graph):
    plan = placement.plan(graph, OPTIONS, "m")
    out = graph.copy()
    insert_qdq(out, plan, AMAX)
    before = to_proto(out)
    with pytest.raises(PlanError, match="no range for tensor 'c'"):
        write_attributes(out, graph, plan, {"a": 4.0})
    assert to_proto(out) == before


def test_a_plan_without_attribute_ops_changes_nothing(graph):
    plan = placement.plan(graph, PlanOptions(), "m")
    out = apply(graph)
    insert_qdq(out, plan, AMAX)
    before = to_proto(out)
    assert write_attributes(out, graph, plan, AMAX) == 0
    assert to_proto(out) == before
