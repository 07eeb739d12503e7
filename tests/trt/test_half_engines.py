"""In a graph of FP16 or BF16 every quantized node runs in INT8, also one that is kept in FP32."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.numpy_helper import from_array
from onnx.reference import ReferenceEvaluator

from onnxq import api
from onnxq.model import graph as graphs
from onnxq.numerics import sqnr_db
from onnxq.pipeline.config import Config
from onnxq.trt.lint import lint
from onnxq.trt.verdict import judge

SIZES = {  # name: of the input, of the first weight, of the second
    "ordinary": (1.0, 0.1, 0.1),
    "input of 1e-6": (1e-6, 0.1, 0.1),
    "input of 1e5": (1e5, 1e-5, 0.1),
    "weights of 1e-7": (1.0, 1e-7, 0.1),
    "activations of 1.5e5": (1.0, 4e3, 1e-6),
    "scale of 1e5": (1e7, 1e-2, 1e-6),
}


def two_convs(first, second):
    """Conv, Relu, Conv; the second with another beside it that reads the same."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (32, 16, 3, 3), "w2": (32, 32, 3, 3), "w3": (32, 32, 3, 3)}
    sizes = {"w1": first, "w2": second, "w3": second}
    weights = [from_array((rng.standard_normal(s) * sizes[n]).astype(np.float32), n)
               for n, s in shapes.items()]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "c1", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "r1"),
        helper.make_node("Conv", ["b", "w2"], ["y"], "c2", pads=[1] * 4),
        helper.make_node("Conv", ["b", "w3"], ["z"], "c3", pads=[1] * 4),
    ]
    shape = [1, 32, 8, 8]
    outputs = [helper.make_tensor_value_info(n, 1, shape) for n in "yz"]
    x = helper.make_tensor_value_info("x", 1, [1, 16, 8, 8])
    graph = helper.make_graph(nodes, "g", [x], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def made(tmp_path):
    """`made(name, half)`: what quantize makes of these sizes, the float model, a sample."""

    def make(name, half):
        size, first, second = SIZES[name]
        model = two_convs(first, second)
        x = (
            np.abs(np.random.default_rng(1).standard_normal((4, 16, 8, 8))).astype(np.float32)
            * size
        )
        onnx.save(model, tmp_path / "f.onnx")
        np.save(tmp_path / "x.npy", x.astype(np.float32))
        config = Config(high_precision=half, recover="none", workers=1)
        result = api.quantize(tmp_path / "f.onnx", [str(tmp_path / "x.npy")], config)
        return result.graph, model, x[:1].astype(np.float32)

    return make


FAST = {("input of 1e-6", "fp16"), ("activations of 1.5e5", "fp16"), ("ordinary", "bf16")}
BUILDS = [
    pytest.param(*case, marks=() if case in FAST else pytest.mark.slow)
    for case in itertools.product(SIZES, ("fp16", "bf16"))
]


@pytest.mark.parametrize(("name", "half"), BUILDS)
def test_every_quantized_node_runs_in_int8(made, engine_of_graph, name, half):
    graph, _, _ = made(name, half)
    verdict = judge(graph, engine_of_graph(graph))
    assert verdict.real == dict.fromkeys(("c1", "c2", "c3"), "int8")
    assert "cast-behind" not in {f.rule for f in lint(graph)}


@pytest.mark.parametrize("name", SIZES)
def test_an_fp16_graph_computes_what_the_float_model_does(made, name):
    """By onnx's reference: ONNX Runtime on a CPU takes Casts to FP16 out, an engine does not."""
    graph, model, x = made(name, "fp16")
    quantized = graphs.to_proto(graph)
    onnx.checker.check_model(quantized, full_check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an overflow in a Cast, say
        outputs = ReferenceEvaluator(quantized).run(None, {"x": x})
    for ref, y in zip(ReferenceEvaluator(model).run(None, {"x": x}), outputs, strict=True):
        assert sqnr_db(ref, y) > 30  # two layers in INT8 leave about 37
