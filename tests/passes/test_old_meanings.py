"""Raised to any opset, an op computes in ONNX Runtime what it computed before."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxq.errors import ModelError
from onnxq.model.graph import from_proto, to_proto
from onnxq.passes.apply import apply
from onnxq.passes.prepare import prepare
from onnxq.passes.raise_opset import raise_opset, raise_opset_to

sys.path.insert(0, str(Path(__file__).parent))  # for the models beside this file
from old_ops import FORMS, LAST, SCHEMAS

NO_NUMBERS = {  # ops whose schema changed and that are not in the table
    "Constant": "every model has them",
    "If": "test_what_is_in_a_body_is_kept_too", "Loop": "as If", "Scan": "as If",
    "OptionalGetElement": "no tensor", "OptionalHasElement": "no tensor",
    "NegativeLogLikelihoodLoss": "training", "SoftmaxCrossEntropyLoss": "training",
    "GroupNormalization": "test_a_scale_a_group_stays_at_its_opset", "QLinearMatMul": "quantized",
}  # fmt: skip


def run(model, feeds):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options,
                                   providers=["CPUExecutionProvider"])  # fmt: skip
    return session.run(None, feeds)


def typed(model, feeds):
    """The model with the types of its outputs, and its outputs."""
    found = run(model, feeds)
    for value, x in zip(model.graph.output, found, strict=True):
        kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
        rank = [None] * x.ndim
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, rank))
    return model, found


def raised(model, minimum):
    return to_proto(apply(from_proto(model), raise_opset_to(minimum)))


def assert_same(got, expected, what):
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), what
        # one kernel runs on the same values, or another one that adds up in another order
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=what)


def test_every_op_that_changed_is_in_the_table():
    changed = {op for op, opsets in SCHEMAS.items() if any(opset > 7 for opset in opsets[1:])}
    assert changed <= FORMS.keys() | NO_NUMBERS.keys()


@pytest.mark.parametrize("op", FORMS)
def test_an_op_computes_the_same_at_any_later_opset(op):
    for form in FORMS[op]:
        for opset in form.opsets():
            model, feeds = form.model(opset)
            model, expected = typed(model, feeds)
            minimums = [m for m in (13, LAST) if opset < m <= form.goal]
            for minimum in minimums:
                after = raised(model, minimum)
                assert_same(run(after, feeds), expected, f"{form} {opset} -> {minimum}")


def in_a_body(model, feeds, expected):
    """The model in the branch of an If that is taken."""
    graph = model.graph
    zeros = [onnx.helper.make_node("Constant", [], [f"z{i}"],
                                   value=onnx.numpy_helper.from_array(np.zeros_like(x)))
             for i, x in enumerate(expected)]  # fmt: skip
    infos = [onnx.helper.make_tensor_value_info(f"z{i}", o.type.tensor_type.elem_type, x.shape)
             for i, (o, x) in enumerate(zip(graph.output, expected, strict=True))]  # fmt: skip
    then = onnx.helper.make_graph(graph.node, "then", [], graph.output, graph.initializer)
    other = onnx.helper.make_graph(zeros, "else", [], infos)
    outputs = [onnx.helper.make_tensor_value_info(f"out{i}", o.type.tensor_type.elem_type,
                                                  [None] * x.ndim)
               for i, (o, x) in enumerate(zip(graph.output, expected, strict=True))]  # fmt: skip
    choice = onnx.helper.make_node("If", ["yes"], [o.name for o in outputs], "if",
                                   then_branch=then, else_branch=other)  # fmt: skip
    yes = onnx.helper.make_tensor_value_info("yes", onnx.TensorProto.BOOL, [])
    whole = onnx.helper.make_graph([choice], "whole", [*graph.input, yes], outputs)
    return onnx.helper.make_model(
        whole, opset_imports=model.opset_import, ir_version=model.ir_version
    ), {**feeds, "yes": np.array(True)}


@pytest.mark.parametrize("op", ["Upsample", "Resize", "Hardmax", "Softmax", "Split", "Dropout"])
def test_what_is_in_a_body_is_kept_too(op):
    for form in FORMS[op][:8]:
        model, feeds = form.model(form.first)
        model, expected = typed(model, feeds)
        model, feeds = in_a_body(model, feeds, expected)
        assert_same(run(raised(model, 13), feeds), expected, f"{form}")


def test_scales_that_are_computed_make_nearest_round_down(graph_of):
    body = """(float[1,1,2,2] x, float[4] s) => (float[N,C,H,W] y) {
        t = Identity(s) y = Resize<mode = "nearest">(x, t) }"""
    before = to_proto(graph_of(body, opset=10))
    feeds = {"x": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2),
             "s": np.array([1, 1, 1.5, 2.5], np.float32)}  # fmt: skip
    after = raised(before, 13)
    assert_same(run(after, feeds), run(before, feeds), "computed scales")


def test_a_hardmax_of_unknown_rank_is_kept(graph_of):
    body = """(float[2,3,4] x, int64[n] s) => (float[N,C,H] y) {
        r = Reshape(x, s) y = Hardmax<axis = 1>(r) }"""
    before = to_proto(graph_of(body, opset=11))
    feeds = {"x": np.arange(24, dtype=np.float32).reshape(2, 3, 4) % 7,
             "s": np.array([4, 3, 2])}  # fmt: skip
    assert_same(run(raised(before, 13), feeds), run(before, feeds), "unknown rank")


BATCH_NORM = "BatchNormalization(x, g, s, m, v)"
TRAINED = f"(float[N,4] x) => (float[N,4] y) {{ y, om, ov, sm, sv = {BATCH_NORM} }}"
NORM = {"g": [1, 2, 3, 4], "s": [0, 1, 0, 1], "m": [1, 1, 2, 2], "v": [1, 2, 1, 2]}


@pytest.mark.parametrize("minimum", [13, 15, 19, 21])
def test_batch_statistics_stay_in_use_at_any_opset(graph_of, rng, minimum):
    weights = {name: np.array(values, np.float32) for name, values in NORM.items()}
    before = to_proto(graph_of(TRAINED, weights, opset=9))
    feeds = {"x": rng.standard_normal((5, 4)).astype(np.float32)}
    assert_same(run(raised(before, minimum), feeds), run(before, feeds), "batch statistics")


@pytest.mark.parametrize(
    ("body", "minimum", "said"),
    [
        ("y, om, ov, sm, sv = BatchNormalization(x, g, s, m, v) z = Neg(sv)", 15,
         "writes to 'sv' is read"),
        ("y, mask = Dropout(x) z = Identity(mask)", 13, "Dropout '.*' writes to 'mask'"),
        ("y = Relu(x) z = Upsample<mode = \"nearest\">(x, up)", 13, "rounds up along one axis"),
    ],
)  # fmt: skip
def test_what_no_later_opset_can_say_is_refused_with_the_remedy(graph_of, body, minimum, said):
    weights = {name: np.array(values, np.float32) for name, values in NORM.items()}
    weights["up"] = np.array([0.7, 1.5], np.float32)
    graph = graph_of(f"(float[N,4] x) => (float[N,4] y, z) {{ {body} }}", weights, opset=9)
    with pytest.raises(ModelError, match=rf"{said}.* export the model again with opset {minimum}"):
        apply(graph, raise_opset_to(minimum))


def test_a_scale_a_group_stays_at_its_opset(graph_of):
    body = ("(float[N,16,4,4] x) => (float[N,16,4,4] y) "
            "{ y = GroupNormalization<num_groups = 4>(x, g, s) }")  # fmt: skip
    weights = {name: np.array(NORM[name], np.float32) for name in ("g", "s")}
    graph = graph_of(body, weights, opset=18)
    assert [n.op for n in prepare(graph).nodes] == ["GroupNormalization"]
    with pytest.raises(ModelError, match=r"has a scale a group.* opset 21"):
        apply(graph, raise_opset_to(21))


def test_a_mask_that_nobody_reads_is_dropped(graph_of):
    body = "(float[N,4] x) => (float[N,4] y) { d, mask = Dropout(x) y = Relu(d) }"
    after = apply(graph_of(body, opset=7), raise_opset)
    assert [len(n.outputs) for n in after.nodes if n.op == "Dropout"] == [1]
