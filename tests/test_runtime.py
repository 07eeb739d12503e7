"""ONNX Runtime behind one door: sessions, providers and errors in one line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest

from onnxq.errors import ModelError, OnnxqError, RuntimeMissing
from onnxq.model.graph import to_proto
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.plan import Plan
from onnxq.run import runtime
from onnxq.spec import Edge, QuantSpec

RELU = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }
"""


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def test_a_model_in_memory_and_one_in_a_file_run_alike(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(parse(RELU), path)
    x = np.array([[-1, 0, 1, 2]], np.float32)
    for model in (parse(RELU), path):
        (y,) = runtime.session(model, threads=1).run(None, {"x": x})
        np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_the_weights_of_a_larger_model_go_through_a_file(monkeypatch):
    monkeypatch.setattr(runtime, "IN_MEMORY", 16)
    w = np.random.default_rng(0).standard_normal((4, 300)).astype(np.float32)
    model = parse(
        """
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[N, 4] x) => (float[N, 300] y) { y = MatMul(x, w) }
        """
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    before = model.SerializeToString()
    x = np.eye(4, dtype=np.float32)
    (y,) = runtime.session(model).run(None, {"x": x})
    np.testing.assert_array_equal(y, w)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("domain", ["custom", ""])
def test_an_op_that_onnx_runtime_lacks_is_named_with_the_way_out(domain):
    prefix = f"{domain}." if domain else ""
    model = parse(
        f"""
        <ir_version: 9, opset_import: ["" : 17, "custom" : 1]>
        net (float[4] x) => (float[4] y) {{ y = {prefix}VoxelPooling(x) }}
        """
    )
    with pytest.raises(ModelError, match=r"no op '\S*VoxelPooling'.*--ort-library lib.so"):
        runtime.session(model)


def test_other_failures_are_one_line_without_source_paths():
    model = parse(
        """
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[4] x, float[5] y) => (float[4] z) { z = Add(x, y) }
        """
    )
    with pytest.raises(ModelError, match="cannot run the model") as caught:
        runtime.session(model)
    message = str(caught.value)
    assert "\n" not in message
    assert ".cc:" not in message
    assert "ONNXRuntimeError" not in message


def test_a_failing_run_is_a_model_error_too():
    model = parse(
        """
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[N] x, float[M] y) => (float[K] z) { z = Add(x, y) }
        """
    )
    session = runtime.session(model, threads=1)
    with pytest.raises(ModelError, match="cannot run the model"):
        runtime.run(session, ["z"], {"x": np.zeros(3, np.float32), "y": np.zeros(4, np.float32)})


def test_an_unknown_provider_lists_the_known_ones():
    with pytest.raises(OnnxqError, match="choose one of cpu, cuda"):
        runtime.providers("tpu")


def test_cuda_without_the_gpu_package_says_what_to_install():
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        assert runtime.providers("cuda")[-1] == "CPUExecutionProvider"
    else:
        with pytest.raises(RuntimeMissing, match=r"onnxq\[gpu\]"):
            runtime.providers("cuda")


def test_a_library_that_is_not_there_is_named(tmp_path):
    missing = tmp_path / "ops.so"
    with pytest.raises(ModelError, match=r"ops\.so"):
        runtime.session(parse(RELU), runtime.Runtime(ort_library=missing))


def test_ops_of_onnxruntime_extensions_are_found_by_themselves():
    model = parse(
        """
        <ir_version: 9, opset_import: ["" : 17, "ai.onnx.contrib" : 1]>
        net (float[N] x) => (float[N] y) { y = ai.onnx.contrib.NegPos(x) }
        """
    )
    model.graph.output[0].name = "neg"
    model.graph.node[0].output[:] = ["neg", "pos"]
    (neg,) = runtime.session(model).run(["neg"], {"x": np.array([-1, 2], np.float32)})
    np.testing.assert_array_equal(neg, np.array([-1, 0], np.float32))


def test_importing_the_module_does_not_import_onnx_runtime():
    code = "import sys, onnxq.run.runtime; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def quantized(graph, specs):
    """The model with Q/DQ of `specs`, {(node, input): spec}; every range is 3."""
    edges = {Edge(*place): spec for place, spec in specs.items()}
    insert_qdq(graph, Plan("m", "tensorrt", edges), dict.fromkeys(graph.tensors(), 3.0))
    return to_proto(graph)


def with_zero_points(model):
    """The FP8 model as others write it, with zero points in place of output types."""
    zero = onnx.helper.make_tensor("fp8_zero", onnx.TensorProto.FLOAT8E4M3FN, [], [0])
    model.graph.initializer.append(zero)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.input.append("fp8_zero")
            del node.attribute[:]  # the output type; every scale is one number
    return model


FP8, INT8 = QuantSpec("fp8"), QuantSpec("int8")
FP8_BODIES = {
    "Relu": "t = MatMul(x, v) r = Relu(t) [mm] y = MatMul(r, w)",
    "Clip": "t = MatMul(x, v) r = Clip(t, zero, six) [mm] y = MatMul(r, w)",
    "product": "[mm] y = MatMul(x, w)",
    "Transpose": "t = Transpose(x) [mm] y = MatMul(x, t)",
}


@pytest.mark.parametrize("name", FP8_BODIES)
def test_the_optimizers_leave_fp8_as_the_graph_says(name, graph_of, rng):
    body = f"(float[32,32] x) => (float[32,32] y) {{{FP8_BODIES[name]}}}"
    values = {n: rng.normal(size=(32, 32)).astype(np.float32) for n in ("x", "v", "w")}
    values |= {"zero": np.float32(0), "six": np.float32(6)}
    x = values.pop("x")
    graph = graph_of(body, {n: v for n, v in values.items() if n in body}, 21)
    model = with_zero_points(quantized(graph, {("mm", 0): FP8, ("mm", 1): FP8}))
    (expected,) = runtime.session(model, optimize="none").run(None, {"x": x})
    (y,) = runtime.session(model).run(None, {"x": x})
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)  # another order of sums


@pytest.mark.parametrize("opset", [20, 21, 23])
def test_a_biased_product_behind_three_axes_is_loaded_and_computed_as_written(opset, graph_of, rng):
    body = "(float[1,8,32] x) => (float[1,8,32] y) {[mm] t = MatMul(x, w) y = Add(t, b)}"
    values = {"w": rng.normal(size=(32, 32)).astype(np.float32), "b": np.ones(32, np.float32)}
    edges = {("mm", 0): INT8, ("mm", 1): QuantSpec("int8", "channel", 1)}
    model = quantized(graph_of(body, values, opset), edges)
    x = rng.normal(size=(1, 8, 32)).astype(np.float32)
    (expected,) = runtime.session(model, optimize="none").run(None, {"x": x})
    (y,) = runtime.session(model).run(None, {"x": x})
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "weight", [INT8, QuantSpec("int4", "block", 0, 32), QuantSpec("int4", "channel", 1)], ids=str
)
def test_a_product_with_quantized_weights_alone_is_computed_in_float(weight, graph_of, rng):
    body = "(float[4,64] x) => (float[4,32] y) {[mm] y = MatMul(x, w)}"
    values = {"w": rng.normal(size=(64, 32)).astype(np.float32)}
    model = quantized(graph_of(body, values, 21), {("mm", 1): weight})
    x = rng.normal(size=(4, 64)).astype(np.float32)
    (expected,) = runtime.session(model, optimize="none").run(None, {"x": x})
    (y,) = runtime.session(model).run(None, {"x": x})
    # another order of sums; a rounding of the activations to INT8 would be off by 1e-2
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)
