"""A model whose form an input chooses is quantized in the form that the user names."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq import api
from onnxq.errors import ModelError, PlanError
from onnxq.model.graph import save
from onnxq.pipeline.config import Config

# Frames of sound and a state, as a voice detector of two sample rates has them.
MODEL = """(float[1, 16, 9] x, float[1, 16] state, int64 rate)
    => (float[1, 16] y, float[1, 16] next) <int64 fast = {16}> {
    quick = Equal(rate, fast)
    y, next = If(quick) <
        then_branch = yes () => (float[1, 16] a, float[1, 16] b) {
            n = Neg(x) c = Conv(n, w) r = Relu(c) d = Conv(r, w)
            m = ReduceMean<axes = [2], keepdims = 0>(d)
            b = Add(m, state) a = Sigmoid(b) },
        else_branch = no () => (float[1, 16] e, float[1, 16] f) {
            n = Abs(x) g = Conv(n, w) h = ReduceMean<axes = [2], keepdims = 0>(g)
            f = Sub(h, state) e = Sigmoid(f) }
    >
}"""


@pytest.fixture
def paths(graph_of, tmp_path):
    """The model, and a folder of samples of one rate."""
    w = np.random.default_rng(0).normal(size=(16, 16, 3)).astype(np.float32)
    save(graph_of(MODEL, {"w": w}), tmp_path / "m.onnx")
    (tmp_path / "data").mkdir()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        feed = {"x": rng.normal(size=(1, 16, 9)), "state": rng.normal(size=(1, 16))}
        np.savez(tmp_path / "data" / f"{seed}.npz", rate=np.array(16),
                 **{k: v.astype(np.float32) for k, v in feed.items()})  # fmt: skip
    return tmp_path / "m.onnx", str(tmp_path / "data")


def test_the_refusal_names_the_input_that_chooses(paths):
    with pytest.raises(PlanError, match=r"in-branch: .*; --fix rate=VALUE takes the branch"):
        api.quantize(*paths)


def test_the_branch_that_is_named_is_quantized_and_compared_with_the_file(paths):
    result = api.quantize(*paths, Config(fix=("rate=16",), check_samples=1))
    assert result.manifest["nodes"]["quantized"] == {"Conv": 2}
    assert result.verdict is not None
    assert result.verdict.grade == "good"
    assert [t.name for t in result.graph.inputs] == ["x", "state", "rate"]


def test_data_of_another_rate_are_seen_to_differ(paths):
    with pytest.raises(ModelError, match="changes what"):
        api.quantize(*paths, Config(fix=("rate=8",), check_samples=1))
