"""Where models run: CUDA is CUDA or an error in one line; the CPU takes its place when asked to."""

import logging

import numpy as np
import onnx
import pytest

from onnxq.errors import OnnxqError, RuntimeMissing
from onnxq.run import providers, runtime

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N] x) => (float[N] z) { y = Relu(x) z = Sigmoid(y) }
"""


def on_a_gpu():
    return not providers.trouble_with_cuda()


no_gpu = pytest.mark.skipif("on_a_gpu()", reason="a GPU is here")


def test_an_unknown_provider_lists_the_known_ones():
    with pytest.raises(OnnxqError, match="choose one of cpu, cuda or cuda,cpu"):
        providers.resolved("tpu")


def test_the_cpu_is_the_cpu():
    assert providers.providers("cpu") == ["CPUExecutionProvider"]


@no_gpu
def test_cuda_without_a_gpu_is_an_error_of_one_line_that_says_how_to_mend_it():
    with pytest.raises(RuntimeMissing, match="or use the provider cpu") as raised:
        runtime.session(onnx.parser.parse_model(NET), runtime.Runtime("cuda"))
    assert "\n" not in str(raised.value)
    assert "pip install" in str(raised.value)


@no_gpu
def test_cuda_cpu_without_a_gpu_runs_on_the_cpu_and_warns_once(caplog):
    caplog.set_level(logging.WARNING, "onnxq")
    providers._warn.cache_clear()
    for _ in range(2):
        session = runtime.session(onnx.parser.parse_model(NET), runtime.Runtime("cuda,cpu"))
    assert session.get_providers() == ["CPUExecutionProvider"]
    (value,) = runtime.run(session, ["z"], {"x": np.zeros(3, np.float32)})
    assert value.tolist() == [0.5, 0.5, 0.5]
    assert [r.getMessage() for r in caplog.records if "on the CPU instead" in r.getMessage()] == [
        f"{providers.trouble_with_cuda()}; running on the CPU instead"
    ]


@pytest.mark.skipif("not on_a_gpu()", reason="no GPU is here")
def test_with_a_gpu_a_session_runs_there():
    session = runtime.session(onnx.parser.parse_model(NET), runtime.Runtime("cuda"))
    assert providers.device_of(session) == "cuda"


def test_the_nodes_on_the_cpu_are_counted_by_op():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    model = onnx.parser.parse_model(NET).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=[providers.CPU])
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip("this ONNX Runtime keeps no record of it")
    assert providers.nodes_on_cpu([session, session]) == {"Relu": 2, "Sigmoid": 2}


def test_a_session_without_a_record_counts_no_nodes():
    session = runtime.session(onnx.parser.parse_model(NET))
    assert not providers.nodes_on_cpu([session])
