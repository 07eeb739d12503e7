"""A merged projection of q, k and v, as vision transformers have it, by the engine it becomes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxq import api
from onnxq.model.graph import Graph, load, to_proto
from onnxq.pipeline.config import Config
from onnxq.trt.engine import Engine
from onnxq.trt.lint import lint
from onnxq.trt.verdict import judge

Make = Callable[..., Graph]

TOKENS, HEADS, DIM = 49, 2, 32
WIDTH = HEADS * DIM
APART = {
    "split": """a, b, c = Split<axis = 2>(m, thirds)
        q0 = Reshape(a, heads) k0 = Reshape(b, heads) v0 = Reshape(c, heads)
        q = Transpose<perm = [0, 2, 1, 3]>(q0) k = Transpose<perm = [0, 2, 3, 1]>(k0)
        v = Transpose<perm = [0, 2, 1, 3]>(v0)""",
    "gather": """r = Reshape(m, five) t = Transpose<perm = [2, 0, 3, 1, 4]>(r)
        q = Gather(t, i0) k0 = Gather(t, i1) v = Gather(t, i2)
        k = Transpose<perm = [0, 1, 3, 2]>(k0)""",
    "channels": """r = Reshape(m, five) t = Transpose<perm = [2, 0, 3, 4, 1]>(r)
        q = Gather(t, i0) k0 = Gather(t, i1) v = Gather(t, i2)
        k = Transpose<perm = [0, 1, 3, 2]>(k0)""",
}
SOFTMAX = "s = Mul(q, scale) qk = MatMul(s, k) e = Softmax<axis = -1>(qk) pv = MatMul(e, v)"
BETWEEN = {
    "softmax": SOFTMAX,
    "mask": """large = ReduceMax<axes = [2], keepdims = 0>(x) l = Unsqueeze(large, axes)
        mask = Mul(l, minus)""" + SOFTMAX.replace("Softmax<axis = -1>(qk)",
                                                  "Softmax<axis = -1>(masked)").replace(
        " e =", " masked = Add(mask, qk) e ="),
    "clip": SOFTMAX.replace(" e =", " held = Clip(qk, low) e =").replace("1>(qk)", "1>(held)"),
    "none": "s = Relu(q) qk = MatMul(s, k) pv = MatMul(qk, v)",
}  # fmt: skip
BODY = """(float[1,49,64] x) => (float[1,49,64] y) {
    n = LayerNormalization(x, ones) p = MatMul(n, wqkv) m = Add(p, bias) APART
    BETWEEN
    o = Transpose<perm = [0, 2, 1, 3]>(pv) f = Reshape(o, flat) z = MatMul(f, wo) y = Add(x, z)}"""


@pytest.fixture
def block(graph_of: Make, rng: np.random.Generator, tmp_path: Path) -> Callable[..., Path]:
    """`block("split", "mask")`: the file of an attention block, named nodes, calibration data
    beside it."""

    def make(apart: str, between: str = "softmax") -> Path:
        constants = {
            "ones": np.ones(WIDTH, np.float32),
            "wqkv": rng.normal(0, 0.12, (WIDTH, 3 * WIDTH)).astype(np.float32),
            "wo": rng.normal(0, 0.12, (WIDTH, WIDTH)).astype(np.float32),
            "bias": rng.normal(0, 0.1, 3 * WIDTH).astype(np.float32),
            "scale": np.array(DIM**-0.5, np.float32),
            "thirds": np.array([WIDTH] * 3),
            "heads": np.array([1, TOKENS, HEADS, DIM]),
            "five": np.array([1, TOKENS, 3, HEADS, DIM]),
            "flat": np.array([1, TOKENS, WIDTH]),
            **{f"i{i}": np.array(i) for i in range(3)},
            "axes": np.array([1, 2]),
            "minus": np.array(-1e9, np.float32),
            "low": np.array(-50, np.float32),
        }
        body = BODY.replace("APART", APART[apart]).replace("BETWEEN", BETWEEN[between])
        graph = graph_of(body, {n: v for n, v in constants.items() if f"{n})" in body})
        for node in graph.nodes:
            node.name = f"/{node.outputs[0].name}"
        onnx.save(to_proto(graph), tmp_path / "block.onnx")
        samples = rng.standard_normal((4, TOKENS, WIDTH)).astype(np.float32)
        np.save(tmp_path / "calib.npy", samples)
        return tmp_path / "block.onnx"

    return make


def quantized(model: Path, config: Config) -> Graph:
    """The Q/DQ graph as it is read back from its file."""
    result = api.quantize(model, [str(model.with_name("calib.npy"))], config)
    out = model.with_name("q.onnx")
    api.write(result, out)
    return load(out)


@pytest.mark.parametrize(
    ("apart", "between", "high_precision"),
    [("split", "softmax", "fp16"), ("gather", "softmax", "fp32"), ("split", "mask", "fp16"),
     ("split", "clip", "fp32"), ("gather", "none", "fp16")],
)  # fmt: skip
def test_every_product_of_a_block_with_one_projection_runs_in_int8(
    apart: str,
    between: str,
    high_precision: str,
    block: Callable[..., Path],
    engine_of_graph: Callable[..., Engine],
) -> None:
    config = Config(recover="none", check_samples=0, high_precision=high_precision)
    graph = quantized(block(apart, between), config)
    verdict = judge(graph, engine_of_graph(graph))
    assert verdict.real == dict.fromkeys(("/p", "/qk", "/pv", "/z"), "int8")
    assert not named(graph)


def named(graph: Graph) -> list[str]:
    """The nodes that lint says run in float for their codes."""
    return [f.node for f in lint(graph, "tensorrt-rtx") if f.rule == "merged-codes"]


@pytest.mark.parametrize(
    ("apart", "between", "missed"),
    [("split", "mask", ["/p"]), ("gather", "softmax", ["/p"]),
     ("gather", "none", []),  # a Relu behind the cut: the product is not split
     ("channels", "softmax", [])],  # attention over channels, as of XCiT
)  # fmt: skip
def test_lint_names_the_projection_that_codes_make_float_and_no_other(
    apart: str,
    between: str,
    missed: list[str],
    block: Callable[..., Path],
    engine_of_graph: Callable[..., Engine],
) -> None:
    config = Config(recover="none", check_samples=0, weights_as="int")
    graph = quantized(block(apart, between), config)
    assert judge(graph, engine_of_graph(graph)).missed == missed == named(graph)


def test_only_the_merged_projection_keeps_float_weights(block: Callable[..., Path]) -> None:
    model = block("gather")
    for weights_as, kept in (("auto", {"wqkv"}), ("int", set()), ("float", {"wqkv", "wo"})):
        config = Config(recover="none", check_samples=0, weights_as=weights_as)
        names = quantized(model, config).tensors()
        assert {"wqkv", "wo"} & set(names) == kept
