"""Every placement rule, by the engine that comes of it."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from onnxq.model.graph import WEIGHTED, Graph
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.sum_expectations import sum_expectations
from onnxq.plan import Plan
from onnxq.targets.options import PlanOptions
from onnxq.trt.engine import Engine, coverage, precision_of

Make = Callable[..., Graph]
Quantize = Callable[..., Plan]
Build = Callable[..., Engine]

IMAGE = "(float[1,32,16,16] x) => (float[n,c,h,w] y)"
PATTERNS = {
    "conv_relu_conv": "a = C(x, w0) b = Relu(a) y = C(b, w1)",
    "conv_hardswish_conv": "a = C(x, w0) b = HardSwish(a) y = C(b, w1)",
    "conv_silu_conv": "a = C(x, w0) s = Sigmoid(a) b = Mul(a, s) y = C(b, w1)",
    "identity_skip": "a = C(x, w0) r = Relu(a) b = C(r, w1) c = Add(b, r) d = Relu(c) y = C(d, w2)",
    "projection_skip": "a = C(x, w0) b = C(a, w1) p = C(a, w2) c = Add(b, p) y = C(c, w0)",
    "chained_adds": "a = C(x, w0) b = C(x, w1) c = C(x, w2) d = Add(a, b) e = Add(d, c)"
    " y = C(e, w0)",
    "maxpool": "a = C(x, w0) m = MaxPool<kernel_shape=[2, 2]>(a) y = C(m, w1)",
    "averagepool": "a = C(x, w0) m = AveragePool<kernel_shape=[2, 2]>(a) y = C(m, w1)",
    "resize": "a = C(x, w0) m = Resize<mode='nearest'>(a, , up) y = C(m, w1)",
    "linear_resize": "a = C(x, w0) m = Resize<mode='linear'>(a, , up) y = C(m, w1)",
    "transpose": "a = C(x, w0) m = Transpose<perm=[0, 1, 3, 2]>(a) y = C(m, w1)",
    "concat": "a = C(x, w0) b = C(x, w1) c = Concat<axis=1>(a, b) y = C(c, wide)",
    "split": "a = C(x, wout) b, c = Split<axis=1>(a, halves) d = C(b, w0) e = Add(d, c)"
    " y = C(e, w1)",
    "depthwise": "a = C(x, w0) b = Conv<pads=[1, 1, 1, 1], group=32>(a, deep) y = C(b, w1)",
    "four_per_group": "a = Conv<pads=[1, 1, 1, 1], group=8>(x, four) y = C(a, w0)",
}  # fmt: skip
SHAPES = {
    **{f"w{i}": (32, 32, 3, 3) for i in range(3)},
    "wide": (32, 64, 3, 3),
    "wout": (64, 32, 3, 3),
    "deep": (32, 1, 3, 3),
    "four": (32, 4, 3, 3),
    "to8": (8, 32, 3, 3),
    "of8": (32, 8, 3, 3),
}
CONSTANTS = {
    "up": np.array([1, 1, 2, 2], np.float32),
    "halves": np.array([32, 32]),
    "one": np.array([1, 1]),
    "ends": np.array([15, 15]),
    "axes": np.array([2, 3]),
    "pads": np.array((0, 0, 1, 1) * 2),
}


@pytest.fixture
def convnet(graph_of: Make, rng: np.random.Generator) -> Make:
    """A named graph of a pattern; C(t, w) is a 3 x 3 Conv."""

    def make(pattern: str, header: str = IMAGE) -> Graph:
        body = pattern.replace("C(", "Conv<pads=[1, 1, 1, 1]>(").replace("'", '"')
        weights = {n: rng.normal(0, 0.1, s).astype(np.float32) for n, s in SHAPES.items()}
        weights |= CONSTANTS
        used = {n: v for n, v in weights.items() if re.search(rf"\b{n}[,)]", body)}
        graph = graph_of(f"{header} {{ {body} }}", used)
        for node in graph.nodes:
            node.name = f"/{node.op}/{node.outputs[0].name}"
        infer_shapes(graph)
        return graph

    return make


def products(graph: Graph) -> list[str]:
    return [n.name for n in graph.nodes if n.op in WEIGHTED]


@pytest.mark.parametrize(
    "steps",
    ["a = Sub(x, c) p = Div(a, c)", "p = Pad(x, pads)", "p = Transpose<perm=[0, 1, 3, 2]>(x)"],
)
def test_the_first_conv_runs_in_int8_behind_preprocessing_in_the_graph(
    steps: str,
    graph_of: Make,
    rng: np.random.Generator,
    quantized: Quantize,
    engine_of_graph: Build,
) -> None:
    body = f"(float[1,3,16,16] x) => (float[n,c,h,w] y) {{{steps} y = Conv(p, w)}}"
    extra = {"c": np.full((1, 3, 1, 1), 0.4, np.float32), "pads": np.array((0, 0, 1, 1) * 2)}
    weights = {name: values for name, values in extra.items() if name in steps}
    graph = graph_of(body, weights | {"w": rng.normal(0, 0.1, (32, 3, 3, 3)).astype(np.float32)})
    graph.nodes[-1].name = "/conv"
    infer_shapes(graph)
    quantized(graph)
    assert precision_of(engine_of_graph(graph), "/conv") == "int8"


def test_a_small_depthwise_conv_moves_fewer_bytes_in_fp16_than_in_int8(
    graph_of: Make, rng: np.random.Generator, quantized: Quantize, engine_of_graph: Build
) -> None:
    traffic = {}
    for high in ("fp32", "fp16"):  # what the plan is told; both engines are FP16 around INT8
        weights = {n: rng.normal(0, 0.1, s).astype(np.float32) for n, s in SHAPES.items()}
        graph = graph_of(
            "(float[1,32,16,16] x) => (float[n,c,h,w] y) "
            "{a = Conv(x, w0) b = Conv<group=32>(a, small) y = Conv(b, w1)}",
            {"w0": weights["w0"], "w1": weights["w1"], "small": weights["deep"][..., :2, :2]},
        )
        for node in graph.nodes:
            node.name = f"/{node.op}/{node.outputs[0].name}"
        infer_shapes(graph)
        plan = quantized(graph, PlanOptions(high_precision=high), half=True)
        assert ("/Conv/b" in plan.rules) == (high == "fp32")
        traffic[high] = engine_of_graph(graph).traffic
    assert traffic["fp16"] < traffic["fp32"]


@pytest.mark.parametrize("name", PATTERNS)
def test_every_product_runs_in_int8_and_only_the_input_needs_a_kernel_to_quantize(
    name: str, convnet: Make, quantized: Quantize, engine_of_graph: Build
) -> None:
    graph = convnet(PATTERNS[name])
    quantized(graph)
    engine = engine_of_graph(graph)
    assert set(coverage(engine, products(graph)).values()) == {"int8"}
    pooled = name == "averagepool"  # pools in float: Q behind it is a kernel
    assert engine.quantize_kernels == 1 + pooled


@pytest.mark.parametrize("name", ["identity_skip", "conv_silu_conv", "concat"])
def test_with_fp16_around_every_product_still_runs_in_int8(
    name: str, convnet: Make, quantized: Quantize, engine_of_graph: Build
) -> None:
    graph = convnet(PATTERNS[name])
    quantized(graph, half=True)
    engine = engine_of_graph(graph)
    assert set(coverage(engine, products(graph)).values()) == {"int8"}


def test_without_qdq_every_product_runs_in_float(convnet: Make, engine_of_graph: Build) -> None:
    graph = convnet(PATTERNS["identity_skip"])
    engine = engine_of_graph(graph)
    assert set(coverage(engine, products(graph)).values()) == {"fp32"}
    assert engine.quantize_kernels == 0


def test_a_node_left_float_runs_in_float_beside_int8(
    convnet: Make, quantized: Quantize, engine_of_graph: Build
) -> None:
    graph = convnet(PATTERNS["conv_relu_conv"])
    quantized(graph, PlanOptions(skip=("/Conv/y",)))
    engine = engine_of_graph(graph)
    assert coverage(engine, ["/Conv/a", "/Conv/y"]) == {"/Conv/a": "int8", "/Conv/y": "fp32"}


def test_reusing_the_skip_tensors_qdq_moves_fewer_bytes_than_a_float_skip(
    convnet: Make, quantized: Quantize, engine_of_graph: Build
) -> None:
    traffic = {}
    for residual in ("skip", "float"):
        graph = convnet(PATTERNS["identity_skip"])
        quantized(graph, PlanOptions(residual=residual))
        traffic[residual] = engine_of_graph(graph).traffic
    tensor = 32 * 16 * 16
    # a float copy is written and read, where INT8 that is there already and its scale are read
    assert traffic["float"] - traffic["skip"] == 4 * tensor + 4 * tensor - (tensor + 4)


@pytest.mark.parametrize("deconv", ["per-tensor", "per-channel"])
def test_a_deconvolution_runs_in_float_even_when_quantized(
    deconv: str,
    graph_of: Make,
    quantized: Quantize,
    engine_of_graph: Build,
    rng: np.random.Generator,
) -> None:
    body = f"{IMAGE} {{ y = ConvTranspose<strides=[2, 2]>(x, w) }}"
    graph = graph_of(body, {"w": rng.normal(0, 0.1, (32, 32, 2, 2)).astype(np.float32)})
    graph.nodes[0].name = "deconv"
    plan = quantized(graph, PlanOptions(deconv=deconv))
    assert plan.nodes == ["deconv"]
    assert precision_of(engine_of_graph(graph), "deconv") == "fp32"


@pytest.mark.parametrize(
    ("op", "shape"), [("Gemm<transB=1>", (48, 64)), ("Gemm", (64, 48)), ("MatMul", (64, 48))]
)
def test_matrix_products_run_in_int8_with_the_scale_axis_along_the_output(
    op: str, shape: tuple[int, int], graph_of: Make, quantized: Quantize, engine_of_graph: Build,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    weights = {"w": rng.normal(0, 0.1, shape).astype(np.float32)}
    graph = graph_of(f"(float[16,64] x) => (float[16,48] y) {{ y = {op}(x, w) }}", weights)
    graph.nodes[0].name = "product"
    quantized(graph)
    assert precision_of(engine_of_graph(graph), "product") == "int8"


def test_for_sm75_a_quantized_conv_runs_in_float(
    convnet: Make, quantized: Quantize, engine_of_graph: Build
) -> None:
    graph = convnet(PATTERNS["conv_relu_conv"])
    quantized(graph)
    engine = engine_of_graph(graph, arch="sm75")
    assert set(coverage(engine, products(graph)).values()) == {"fp32"}


ATTENTION = """(float[1,4,64,32] q, float[1,4,64,32] k, float[1,4,64,32] v) => (float[1,64,48] y) {
    t = Transpose<perm=[0, 1, 3, 2]>(k)
    scores = MatMul(q, t)
    shares = Softmax<axis=-1>(scores)
    a = MatMul(shares, v)
    b = Transpose<perm=[0, 2, 1, 3]>(a)
    c = Reshape(b, shape)
    y = MatMul(c, w)
}"""


@pytest.mark.parametrize("half", [False, True])
def test_attention_is_one_int8_kernel_if_its_output_is_quantized_too(
    half: bool,
    graph_of: Make,
    quantized: Quantize,
    engine_of_graph: Build,
    rng: np.random.Generator,
) -> None:
    weight = rng.normal(0, 0.1, (128, 48)).astype(np.float32)
    graph = graph_of(ATTENTION, {"w": weight, "shape": np.array([1, 64, 128])})
    for node in graph.nodes:
        node.name = node.outputs[0].name
    quantized(graph, half=half)
    engine = engine_of_graph(graph)
    assert coverage(engine, ["scores", "a", "y"]) == dict.fromkeys(["scores", "a", "y"], "int8")
    assert sum("mha" in k.name for k in engine.kernels) == 1


SILU = "a = C(x, w0) s = Sigmoid(a) b = Mul(a, s)"
ONE_FORM = {  # the rule, a pattern, what leaves it out
    "skip behind SiLU": (
        f"{SILU} c = C(b, w1) t = Sigmoid(c) d = Mul(c, t) e = Add(d, b) y = C(e, w2)",
        PlanOptions(residual="float"),
    ),
    "shortcut of slices": (
        "a = C(x, w0) s = Slice(a, one, ends, axes) p = Pad(s, pads) c = C(a, w1) e = Add(c, p)"
        " y = C(e, w2)",
        PlanOptions(residual="float"),
    ),
    "branch that a Conv reads": (
        f"{SILU} c = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(b, w1) d = Resize<mode='nearest'>"
        "(c, , up) e = Concat<axis=1>(d, b) y = C(e, wide)",
        PlanOptions(concat="float"),
    ),
    "branch of two Concats": (
        f"{SILU} r = Resize<mode='nearest'>(b, , up) q = Resize<mode='nearest'>(x, , up)"
        " c = Concat<axis=1>(q, r) d = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(c, wide)"
        " e = Concat<axis=1>(d, b) y = C(e, wide)",
        PlanOptions(concat="float"),
    ),
    "Conv of 8 channels": (
        "a = C(x, w0) b = C(a, to8) c = C(b, of8) y = C(c, w1)", PlanOptions(min_channels=16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", ONE_FORM)
def test_a_rule_moves_fewer_bytes_and_every_product_runs_in_int8(
    rule: str, convnet: Make, quantized: Quantize, engine_of_graph: Build
) -> None:
    pattern, without = ONE_FORM[rule]
    traffic = []
    for options in (PlanOptions(), without):
        graph = convnet(pattern)
        quantized(graph, options)
        engine = engine_of_graph(graph)
        assert engine.traffic is not None
        traffic.append(engine.traffic)
        if not traffic[1:]:
            assert set(coverage(engine, products(graph)).values()) == {"int8"}
    assert traffic[0] < traffic[1]


def test_a_mean_under_a_softmax_is_computed_in_the_kernel_of_the_softmax(
    graph_of: Make, engine_of_graph: Build, rng: np.random.Generator
) -> None:
    body = """(float[1,32,20,20] x) => (float[1,4,400] y) {
        c = Conv(x, first) r = Reshape(c, s) t = Transpose<perm=[0, 2, 1, 3]>(r)
        p = Softmax<axis=1>(t) m = Conv(p, w) y = Reshape(m, e)
    }"""
    weights = {"s": np.array([1, 4, 16, 400]), "e": np.array([1, 4, 400])}
    weights["w"] = np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)
    weights["first"] = rng.normal(0, 0.1, (64, 32, 1, 1)).astype(np.float32)
    graph = graph_of(body, weights)
    before = engine_of_graph(graph)
    after = engine_of_graph(apply(graph, sum_expectations))
    assert len(after.kernels) < len(before.kernels)
    assert before.traffic - after.traffic >= 2 * 4 * 64 * 400  # the shares: written, and read
