"""The opset is raised where Q/DQ needs it, and the refusal names the op."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.errors import ModelError
from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.raise_opset import UNKNOWN, raise_opset, raise_opset_to

# Unsqueeze and ReduceSum keep their axes in attributes up to opset 12, in inputs from 13 on.
BODY = """(float[N,4] x) => (float[N,1] y)
<float[4] b = {1,2,3,4}> {
    a = MatMul(x, w)
    c = Add(a, b)
    d = Unsqueeze<axes = [1]>(c)
    y = ReduceSum<axes = [2], keepdims = 0>(d)
}"""
W = np.arange(4 * 400, dtype=np.float32).reshape(4, 400)[:, :4] / 1000
BIG = np.ones((4, 300), np.float32)


def opsets(graph):
    return {o.domain: o.version for o in to_proto(graph).opset_import}


def test_opset_12_becomes_13_and_attributes_become_inputs(graph_of):
    out = apply(graph_of(BODY, {"w": W}, opset=12), raise_opset)
    assert out.opset == 13
    assert opsets(out) == {"": 13, "my": 1}
    assert len(next(n for n in out.nodes if n.op == "Unsqueeze").inputs) == 2


def test_weights_are_put_back(graph_of):
    body = "(float[N,4] x) => (float[N,300] y) {y = MatMul(x, w)}"
    out = apply(graph_of(body, {"w": BIG}, opset=11), raise_opset)
    assert [t.name for t in out.inputs] == ["x"]
    assert np.array_equal(out.tensors()["w"].values, BIG)


def test_node_and_tensor_names_stay(graph_of):
    graph = graph_of(BODY, {"w": W}, opset=12)
    for i, node in enumerate(graph.nodes):
        node.name = f"/layer/{i}"
    out = apply(graph, raise_opset)
    assert [n.name for n in out.nodes if n.op != "Constant"] == [f"/layer/{i}" for i in range(4)]
    assert {"x", "a", "c", "d", "y"} <= set(out.tensors())


@pytest.mark.parametrize(("minimum", "ir"), [(19, 9), (21, 10)])
def test_a_higher_minimum_raises_the_ir_version_too(graph_of, minimum, ir):
    out = apply(graph_of(BODY, {"w": W}, opset=12), raise_opset_to(minimum))
    assert out.opset == minimum
    assert to_proto(out).ir_version == ir


@pytest.mark.parametrize("minimum", [13, 19])
def test_numbers_are_preserved_and_the_pass_is_idempotent(graph_of, run_graph, rng, minimum):
    graph = graph_of(BODY, {"w": W}, opset=12)
    before = to_proto(graph)
    once = apply(graph, raise_opset_to(minimum))
    assert to_proto(graph) == before
    assert raise_opset_to(minimum)(once) == 0
    feeds = {"x": rng.standard_normal((2, 4)).astype(np.float32)}
    # The same kernels run on the same values: equal to the bit.
    assert np.array_equal(run_graph(once, feeds), run_graph(graph, feeds))


def test_a_model_that_is_new_enough_is_left_alone(graph_of):
    graph = graph_of("(float[N] x) => (float[N] y) {y = Relu(x)}", opset=17)
    assert raise_opset(graph) == 0
    assert graph.opset == 17


def test_custom_domains_keep_their_ops_and_versions(graph_of):
    graph = graph_of("(float[N] x) => (float[N] y) {a = my.Op(x) y = Relu(a)}", opset=11)
    out = apply(graph, raise_opset)
    assert (out.nodes[0].op, out.nodes[0].domain) == ("Op", "my")
    assert opsets(out) == {"": 13, "my": 1}


@pytest.mark.parametrize(
    ("op", "node"),
    [
        ("MaxUnpool", "b = MaxUnpool(a, a)"),  # onnx has no adapter for it
        ("Add", "b = Add<broadcast = 1, axis = 0>(a, w)"),  # needs a size, which is dynamic
    ],
)
def test_an_op_that_cannot_be_converted_is_named(graph_of, op, node):
    body = f"(float[N,4] x) => (float[N,4] y) {{a = Relu(x) {node} c = Abs(b) y = Neg(c)}}"
    graph = graph_of(body, {"w": W[0]}, opset=6)
    graph.nodes[1].name = "culprit"
    with pytest.raises(ModelError, match=rf"op {op} of node 'culprit'.* with opset 13 or later"):
        raise_opset(graph)


def test_an_op_that_onnx_does_not_know_in_its_own_domain_is_carried_along(graph_of):
    body = """(float[4] x) => (float[4] y) {
        a = SparseConvolution<kernel_size = [3, 3]>(x)  y = Relu(a) }"""
    after = apply(graph_of(body, opset=11), raise_opset_to(19))
    assert after.opset == 19
    assert [(n.op, n.domain or "") for n in after.nodes] == [
        ("SparseConvolution", ""),
        ("Relu", ""),
    ]
    assert after.nodes[0].attrs["kernel_size"] == [3, 3]
    assert not any(opset.domain == UNKNOWN for opset in after.import_domains)


def test_an_op_with_fewer_inputs_than_onnx_gives_it_is_carried_along(graph_of):
    body = "(float[4,2] x) => (float[2,4] y) { y = Reshape<dims = [2, 4]>(x) }"
    graph = graph_of(body, opset=13)
    assert raise_opset_to(19)(graph) == 1
    assert (graph.nodes[0].op, graph.nodes[0].attrs["dims"]) == ("Reshape", [2, 4])


def test_a_scan_with_its_batch_axis_is_refused(graph_of):
    # up to opset 8 a Scan had a batch axis; onnx's converter hands it on as if it had none
    body = """(float[1,2] a, float[1,3,2] x) => (float[1,2] y, float[1,3,2] z) {
        [scan] y, z = Scan<num_scan_inputs = 1, body = each (float[2] s, float[2] n) =>
            (float[2] t, float[2] u) { t = Add(s, n) u = Identity(t) }>("", a, x)
    }"""
    with pytest.raises(ModelError, match="cannot convert op Scan of node 'scan'"):
        apply(graph_of(body, opset=8), raise_opset)


def test_constants_that_are_no_inputs_are_known_in_models_of_the_first_versions(graph_of):
    graph = graph_of(BODY, {"w": W}, opset=8)
    graph.ir_version = 3  # before 4 every constant had to be an input too
    out = apply(graph, raise_opset)
    assert (out.opset, out.ir_version >= 4) == (13, True)
