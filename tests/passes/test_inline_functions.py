"""Functions of the model are put in place, so that the rules see what is inside."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxq.errors import ModelError
from onnxq.model.graph import from_proto, to_proto
from onnxq.passes import inline_functions as module
from onnxq.passes.apply import apply
from onnxq.passes.inline_functions import inline_functions
from onnxq.passes.prepare import prepare

TEXT = """<ir_version: 8, opset_import: ["": 17, "my": 1]>
g (float[N,4] x) => (float[N,4] y) {h = my.layer(x, w) y = my.layer(h, w)}
<domain: "my", opset_import: ["": %d]>
layer (a, b) => (c) {p = MatMul(a, b) c = Relu(p)}"""
W = np.linspace(-1, 1, 1600, dtype=np.float32).reshape(400, 4)[:4]


def model(opset=17):
    parsed = onnx.parser.parse_model(TEXT % opset)
    parsed.graph.initializer.append(onnx.numpy_helper.from_array(W, "w"))
    return parsed


def test_calls_become_their_bodies():
    out = apply(from_proto(model()), inline_functions)
    assert [n.op for n in out.nodes] == ["MatMul", "Relu", "MatMul", "Relu"]
    assert not out.functions


def test_a_function_of_an_older_opset_is_inlined_too():
    out = prepare(from_proto(model(12)))
    assert [n.op for n in out.nodes] == ["MatMul", "Relu", "MatMul", "Relu"]


def test_numbers_are_preserved_and_the_pass_is_idempotent(run_graph, rng):
    graph = from_proto(model())
    before = to_proto(graph)
    once = apply(graph, inline_functions)
    assert to_proto(graph) == before
    assert inline_functions(once) == 0
    feeds = {"x": rng.standard_normal((3, 4)).astype(np.float32)}
    # The same nodes run, only spelled out: equal to the bit.
    assert np.array_equal(run_graph(once, feeds), run_graph(graph, feeds))


def test_a_model_without_functions_is_left_alone(graph_of):
    assert inline_functions(graph_of("(float[N] x) => (float[N] y) {y = Relu(x)}")) == 0


def test_a_function_that_cannot_be_inlined_is_an_error(monkeypatch):
    def refuse(model, convert_version):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(module.onnx.inliner, "inline_local_functions", refuse)
    with pytest.raises(ModelError, match=r"cannot be inlined: no such luck; export it again"):
        inline_functions(from_proto(model()))


SOFTMAX = """<ir_version: 8, opset_import: ["": 17, "my": 1]>
g (float[2,4,6] x) => (float[2,4,6] y) { y = my.F (x) }
<domain: "my", opset_import: ["": VERSION]>
F <DEFAULT> (i) => (o) { o = Softmax <AXIS> (i) }
"""


@pytest.mark.parametrize(
    ("version", "default", "axis", "along"),
    [
        (17, "axis: int = 1", "axis: int = @axis", 1),
        (11, "", "axis = 1", 1),  # ONNX Runtime reads it with the opset of the model
    ],
)
def test_a_function_computes_what_it_does_in_onnx_runtime(version, default, axis, along):
    text = SOFTMAX.replace("VERSION", str(version)).replace("AXIS", axis)
    made = onnx.parser.parse_model(text.replace(" <DEFAULT>", f" <{default}>" if default else ""))
    made.functions[0].opset_import[0].version = version
    x = np.random.default_rng(0).standard_normal((2, 4, 6)).astype(np.float32)
    exponents = np.exp(x.astype(np.float64))
    expected = exponents / exponents.sum(along, keepdims=True)
    for one in (made, to_proto(apply(from_proto(made), inline_functions))):
        session = ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5)
