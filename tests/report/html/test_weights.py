"""The rounding error of weights."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from onnxq.errors import DataError
from onnxq.inspect.reading import read_graph
from onnxq.numerics import decibels, fake_quant
from onnxq.pipeline.source import prepare
from onnxq.report.html.gathering import Sources, gather
from onnxq.report.html.weights import float_graph, weight_errors
from onnxq.spec import QuantSpec

from .conftest import MODEL

CHANNELS = QuantSpec("int8", "channel", 0)


def test_the_error_is_that_of_rounding_the_float_weights(centerpoint, tmp_path):
    floats = prepare(MODEL).graph
    reading = read_graph(centerpoint.graph, tmp_path)
    found = weight_errors(reading, floats)
    conv = next(n for n in floats.nodes if n.op == "Conv" and n.name in found)
    weight = conv.inputs[1].values.astype(np.float64)
    scale = reading.by_name[conv.name].grids[1].scale
    rounded = fake_quant(weight, 127 * scale, CHANNELS)
    expected = decibels(np.square(weight).sum(), np.square(weight - rounded).sum())
    assert found[conv.name] == pytest.approx(expected, abs=0.01)  # amax is float32
    assert found.keys() <= {n.name for n in floats.nodes if n.op in ("Conv", "ConvTranspose")}


def test_without_the_float_model_nothing_is_said(centerpoint, tmp_path):
    assert weight_errors(read_graph(centerpoint.graph, tmp_path), None) == {}


def test_weights_that_the_model_holds_in_float_need_no_other(quantized_model, tmp_path):
    graph = quantized_model("conv")
    weight = np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16, 1, 1)
    dequantize = next(n for n in graph.nodes if n.outputs[0].name == "k")
    scale, zero = dequantize.inputs[1], dequantize.inputs[2]
    codes = gs.Variable("codes_q", np.int8, weight.shape)
    graph.nodes.append(
        gs.Node("QuantizeLinear", "wq", {}, [gs.Constant("w_float", weight), scale, zero], [codes])
    )
    dequantize.inputs[0] = codes
    graph.toposort()
    (error,) = weight_errors(read_graph(graph, tmp_path), None).values()
    noise = np.square(weight - np.clip(np.rint(weight / 0.25), -128, 127) * 0.25).sum()
    assert error == pytest.approx(decibels(np.square(weight).sum(), noise), abs=1e-3)


def test_the_float_model_is_found_beside_the_model_and_another_is_refused(centerpoint, tmp_path):
    saved = centerpoint.save(tmp_path / "q.onnx")
    assert gather(tmp_path / "q.onnx", Sources()).weights == {}
    found = gather(tmp_path / "q.onnx", Sources(float_model=MODEL)).weights
    assert min(found.values()) > 30
    (tmp_path / MODEL.name).write_bytes(MODEL.read_bytes())
    assert gather(tmp_path / "q.onnx", Sources()).weights == found
    document = {**saved.manifest, "model": {**saved.manifest["model"], "sha256": "0" * 64}}
    with pytest.raises(DataError, match="the float model"):
        float_graph(MODEL, tmp_path, document)


def test_weights_that_a_recovery_changed_before_are_left_out(centerpoint, tmp_path):
    manifest = {**centerpoint.manifest, "recovered": [{"algorithm": "smooth quantization"}]}
    assert float_graph(MODEL, tmp_path, manifest) is None
