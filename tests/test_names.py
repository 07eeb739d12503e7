"""A model may have tensors called like whatever onnxq makes: other names are found then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from onnx.numpy_helper import from_array

from onnxq import api
from onnxq.model import graph
from onnxq.passes.strip_qdq import strip_qdq
from onnxq.pipeline.config import Config
from onnxq.targets.options import PlanOptions
from onnxq.trt.fixes import fix

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 16, 6, 6)).astype(np.float32)
VALUES = {
    "w1": RNG.normal(size=(16, 16, 3, 3)) / 12,
    "b1": RNG.normal(size=16) / 10,
    "w2": RNG.normal(size=(16, 32)) / 4,
    "b2": RNG.normal(size=32) / 10,
    "w3": RNG.normal(size=(32, 16)) / 6,
    "b3": RNG.normal(size=16) / 10,
    "gain": RNG.uniform(0.5, 2, 16),
    "mean": RNG.normal(size=16) / 10,
    "var": RNG.uniform(0.5, 2, 16),
}
BODY = """
    h = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
    n = BatchNormalization(h, gain, mean, mean, var)
    r = Relu(n)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    g = Gemm(f, w2, b2)
    s = Relu(g)
    k = Gemm(s, w3, b3)
    t = Softmax(k)
    twice = Gemm(s, w3)
    y0 = Add(t, twice)
"""
CONFIGS = {
    "tensorrt": Config(recover="smooth,bias"),
    "float weights": Config(weights_as="float", placement=PlanOptions(scheme="w4a8")),
    "fp16": Config(high_precision="fp16"),
    "fp16 throughout": Config(high_precision="fp16", io="half"),
    "onnxruntime": Config(placement=PlanOptions(target="onnxruntime")),
    "w16a16": Config(placement=PlanOptions(target="onnxruntime", scheme="w16a16")),
}


def model(folder: Path, planted: list[str]) -> Path:
    """The network behind which constants called `planted` multiply the output by 1 in all."""
    names = ["y0", *(f"chain_{i}" for i in range(len(planted))), "y"]
    steps = [f"{b} = Mul({a}, last)" for a, b in zip(names[-2:], names[-1:], strict=False)]
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 19]> g (float[N, 16, 6, 6] x) => (float[N, 16] y)'
        f"{{ {BODY} {' '.join(steps)} }}"
    )
    last = proto.graph.node.pop()
    for i, name in enumerate(planted):  # the parser takes no names such as 'x/y.z'
        proto.graph.node.append(helper.make_node("Mul", [names[i], name], [names[i + 1]]))
    proto.graph.node.append(last)
    factors = {name: np.float32(2 if i % 2 else 0.5) for i, name in enumerate(planted)}
    factors["last"] = np.float32(1 if len(planted) % 2 == 0 else 2)
    for name, values in {**VALUES, **factors}.items():
        proto.graph.initializer.append(from_array(np.asarray(values, np.float32), name))
    onnx.save(proto, folder / "m.onnx")
    return folder / "m.onnx"


def names_in(proto: onnx.ModelProto) -> set[str]:
    nodes = proto.graph.node
    tensors = {name for node in nodes for name in (*node.input, *node.output)}
    return tensors | {node.name for node in nodes} | {t.name for t in proto.graph.initializer}


def run(path: Path) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    feed = X.astype(np.float16) if entry.type == "tensor(float16)" else X
    return session.run(None, {entry.name: feed})[0].astype(np.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_may_use_every_name_that_quantizing_it_makes(name, tmp_path, capfd):
    np.save(tmp_path / "x.npy", X)

    def quantize(planted: list[str]) -> np.ndarray:
        result = api.quantize(model(tmp_path, planted), [str(tmp_path / "x.npy")], CONFIGS[name])
        api.write(result, tmp_path / "q.onnx", CONFIGS[name])
        return run(tmp_path / "q.onnx")

    free = quantize([])
    made = names_in(onnx.load(tmp_path / "q.onnx")) - names_in(onnx.load(tmp_path / "m.onnx"))
    assert len(made) > 10
    planted = sorted(made)
    np.testing.assert_allclose(quantize(planted), free, rtol=0, atol=2e-3)  # steps of FP16
    onnx.checker.check_model(tmp_path / "q.onnx", full_check=True)
    assert "same name" not in "".join(capfd.readouterr())


def test_taking_qdq_out_and_fixing_it_find_free_names(tmp_path):
    np.save(tmp_path / "x.npy", X)
    result = api.quantize(model(tmp_path, []), [str(tmp_path / "x.npy")], CONFIGS["onnxruntime"])
    taken = [t for t in result.graph.tensors() if t.endswith("_dequantized")]
    assert taken
    proto = graph.to_proto(result.graph)
    planted = [f"{t}_float" for t in taken]
    names = ["y", *(f"chain_{i}" for i in range(len(planted)))]
    for i, name in enumerate(planted):
        proto.graph.node.append(helper.make_node("Mul", [names[i], name], [names[i + 1]]))
        proto.graph.initializer.append(from_array(np.float32(1), name))
    proto.graph.output[0].name = names[-1]
    stripped, (fixed, counts) = graph.from_proto(proto), fix(graph.from_proto(proto))
    assert strip_qdq(stripped) > 3
    assert counts["int32-bias"] > 0
    for made in (stripped, fixed):
        checked = graph.to_proto(made)
        onnx.checker.check_model(checked, full_check=True)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        y = ort.InferenceSession(checked.SerializeToString(), options).run(None, {"x": X})[0]
        np.testing.assert_allclose(y, run(tmp_path / "m.onnx"), rtol=0, atol=0.1)  # 8 bits
