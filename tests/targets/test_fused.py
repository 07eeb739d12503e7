"""What ONNX Runtime's optimizer wrote is named, with the export to start from."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort

from onnxq import api
from onnxq.model.graph import to_proto
from onnxq.pipeline.config import Config


def test_weights_of_ops_that_the_optimizer_wrote_are_named(graph_of, tmp_path, rng):
    weights = {n: rng.normal(0, 0.1, (32, 32, 3, 3)).astype(np.float32) for n in ("v", "w")}
    body = "(float[1,32,9,9] x) => (float[1,32,5,5] y) {a = Conv(x, v) r = Relu(a) y = Conv(r, w)}"
    onnx.save(to_proto(graph_of(body, weights)), tmp_path / "plain.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    ort.InferenceSession(tmp_path / "plain.onnx", options, providers=["CPUExecutionProvider"])
    np.save(tmp_path / "x.npy", rng.standard_normal((8, 32, 9, 9)).astype(np.float32))

    def quantized(name):
        config = Config(recover="none", check_samples=2)
        return api.quantize(tmp_path / name, [str(tmp_path / "x.npy")], config)

    assert not [n for n in quantized("plain.onnx").manifest["notes"] if "optimizer" in n]
    result = quantized("fused.onnx")
    (note,) = [n for n in result.manifest["notes"] if "optimizer" in n]
    assert note.startswith("1 ops that ONNX Runtime's optimizer wrote (FusedConv) stay float")
    assert [r.partition(":")[0] for r in result.plan.skipped.values()] == ["optimized-op"]
