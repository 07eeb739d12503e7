"""What a scheme says is what an engine of TensorRT-RTX runs, read without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxq.model.graph import Graph
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec
from onnxq.targets.options import PlanOptions
from onnxq.trt.build import BuildOptions, build
from onnxq.trt.engine import Engine, coverage, precision_of
from onnxq.trt.lint import is_refused, lint
from onnxq.trt.verdict import judge

Make = Callable[..., Graph]
Quantize = Callable[..., Plan]
Build = Callable[..., Engine]

OPSET = 21
PRODUCT = "(float[8,256] x) => (float[8,128] y) "
IMAGE = "(float[1,32,16,16] x) => (float[n,c,h,w] y) "
FORMS = {  # name: (body, shape of w)
    "Conv": (IMAGE + "{[op] y = Conv<pads=[1,1,1,1]>(x, w)}", (32, 32, 3, 3)),
    "depthwise": (IMAGE + "{[op] y = Conv<pads=[1,1,1,1], group=32>(x, w)}", (32, 1, 3, 3)),
    "MatMul": (PRODUCT + "{[op] y = MatMul(x, w)}", (256, 128)),
    "batched MatMul": ("(float[2,8,256] x) => (float[2,8,128] y) {[op] y = MatMul(x, w)}",
                       (256, 128)),
    "Gemm": (PRODUCT + "{[op] y = Gemm(x, w)}", (256, 128)),
    "Gemm transB": (PRODUCT + "{[op] y = Gemm<transB=1>(x, w)}", (128, 256)),
    "left": ("(float[256,32] x) => (float[128,32] y) {[op] y = MatMul(w, x)}", (128, 256)),
}  # fmt: skip
CODES = {"w8a8": "int8", "w4a8": "int8", "fp8": "fp8", "w4afp8": "fp8"}
AROUND = (False, pytest.param(True, marks=pytest.mark.slow))
BLOCKED = ("MatMul", "batched MatMul", "Gemm", "Gemm transB")


@pytest.fixture
def form(graph_of: Make, rng: np.random.Generator) -> Make:
    """`form(name)`: a graph of one op, named 'op'."""

    def make(name: str) -> Graph:
        body, shape = FORMS[name]
        return graph_of(body, {"w": rng.normal(0, 0.1, shape).astype(np.float32)}, OPSET)

    return make


@pytest.mark.parametrize("half", AROUND, ids=["fp32 around", "fp16 around"])
@pytest.mark.parametrize("scheme", CODES)
@pytest.mark.parametrize("name", FORMS)
def test_codes_by_codes_run_in_the_type_of_the_scheme(
    name: str, scheme: str, half: bool, form: Make, quantized: Quantize, engine_of_graph: Build
) -> None:
    graph = form(name)
    plan = quantized(graph, PlanOptions(scheme=scheme), half)
    engine = engine_of_graph(graph)
    if "op" in plan.skipped:
        assert (name, CODES[scheme]) == ("depthwise", "fp8")
        assert plan.skipped["op"].startswith("fp8-channels")
    else:
        assert precision_of(engine, "op") == CODES[scheme]
        assert judge(graph, engine).missed == []


@pytest.mark.parametrize("half", AROUND, ids=["fp32 around", "fp16 around"])
@pytest.mark.parametrize("scheme", ["w8a16", "w4a16"])
@pytest.mark.parametrize("name", FORMS)
def test_weights_alone_run_in_float_but_int4_blocks_which_the_kernel_unpacks(
    name: str, scheme: str, half: bool, form: Make, quantized: Quantize, engine_of_graph: Build
) -> None:
    graph = form(name)
    quantized(graph, PlanOptions(scheme=scheme), half)
    engine = engine_of_graph(graph)
    around = "fp16" if half else "fp32"
    fused = scheme == "w4a16" and name in BLOCKED
    assert precision_of(engine, "op") == ("int4" if fused else around)
    assert judge(graph, engine).covered == fused


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_int4_blocks_of_any_size_fuse(
    size: int, form: Make, quantized: Quantize, engine_of_graph: Build
) -> None:
    graph = form("MatMul")
    plan = quantized(graph, PlanOptions(scheme="w4a16", block_size=size))
    assert plan.edges[Edge("op", 1)].block_size == size
    assert precision_of(engine_of_graph(graph), "op") == "int4"


def refusal(graph: Graph, tmp_path: Path, arch: str = "sm89") -> str:
    """Why TensorRT-RTX refuses a graph; "" if it builds."""
    from onnxq.model.graph import save

    save(graph, tmp_path / "m.onnx")
    options = BuildOptions("tensorrt-rtx", arch=arch)
    result = build(tmp_path / "m.onnx", tmp_path / "m.engine", options=options)
    return "" if result.ok else str(result.problems[0])


BLOCK, CHANNEL = QuantSpec("int4", "block", 0, 64), QuantSpec("int4", "channel", 1)


@pytest.mark.parametrize(
    ("name", "weight", "activation"),
    [
        ("batched MatMul", BLOCK, "int8"),
        ("Gemm", BLOCK, "fp8"),
        ("Gemm", CHANNEL, "fp8"),
        ("MatMul", QuantSpec("int4"), "int8"),
        ("Conv", QuantSpec("int4", "channel", 0), "int8"),
    ],
    ids=str,
)
def test_codes_that_no_kernel_multiplies_are_refused_as_lint_says(
    name: str, weight: QuantSpec, activation: str, form: Make, tmp_path: Path, tensorrt_rtx: None
) -> None:
    graph = form(name)
    edges = {Edge("op", 0): QuantSpec(activation), Edge("op", 1): weight}
    insert_qdq(graph, Plan("m", "tensorrt", edges), {"x": 3.0})
    assert is_refused(lint(graph, "tensorrt-rtx"))
    assert refusal(graph, tmp_path)


@pytest.mark.parametrize(
    ("scheme", "oldest", "before"), [("fp8", "sm89", "sm86"), ("w4a16", "sm80", "sm75")]
)
def test_the_oldest_gpu_that_has_the_type(
    scheme: str, oldest: str, before: str, form: Make, quantized: Quantize, tmp_path: Path,
    tensorrt_rtx: None,
) -> None:  # fmt: skip
    graph = form("MatMul")
    quantized(graph, PlanOptions(scheme=scheme))
    assert refusal(graph, tmp_path, oldest) == ""
    assert "HW-specific datatypes" in refusal(graph, tmp_path, before)


def test_an_fp8_conv_over_a_large_window_runs_in_float_so_it_is_left_float(
    graph_of: Make, rng: np.random.Generator, quantized: Quantize, engine_of_graph: Build
) -> None:
    def make() -> Graph:
        weight = rng.normal(0, 0.1, (32, 32, 7, 7)).astype(np.float32)
        return graph_of(IMAGE + "{[op] y = Conv(x, w)}", {"w": weight}, OPSET)

    assert quantized(make(), PlanOptions(scheme="fp8")).skipped["op"].startswith("fp8-window")
    graph = make()
    edges = {Edge("op", 0): QuantSpec("fp8"), Edge("op", 1): QuantSpec("fp8", "channel", 0)}
    insert_qdq(graph, Plan("m", "tensorrt", edges), {"x": 3.0})
    assert precision_of(engine_of_graph(graph), "op") == "fp32"


MIXED = {
    "residual": "[a] t = C(x, w0) r = Relu(t) [b] u = C(r, w1) [add] v = Add(u, r) "
                "[c] y = C(v, w2)",
    "concat": "[a] t = C(x, w0) [b] u = C(x, w1) v = Concat<axis=1>(t, u) [c] y = C(v, w3)",
    "two readers": "[a] t = C(x, w0) [b] u = C(t, w1) [c] v = C(t, w2) y = Add(u, v)",
}  # fmt: skip
MIXTURES = {
    ("w8a8", ("b=fp8",)): ("int8", "fp8", "int8"),
    ("fp8", ("b=w4a8",)): ("fp8", "int8", "fp8"),
    ("w4afp8", ("a=w4a16", "c=w8a8")): ("fp32", "fp8", "int8"),
    ("w4a16", ("b=fp8", "c=w4a8")): ("fp32", "fp8", "int8"),
}


@pytest.mark.slow
@pytest.mark.parametrize("concat", ["float", "share", "requant"])
@pytest.mark.parametrize("mixture", MIXTURES, ids=str)
@pytest.mark.parametrize("pattern", MIXED)
def test_neighbours_of_several_schemes_build_and_each_runs_in_its_own(
    pattern: str, mixture: tuple[str, tuple[str, ...]], concat: str, graph_of: Make,
    quantized: Quantize, engine_of_graph: Build, rng: np.random.Generator,
) -> None:  # fmt: skip
    body = MIXED[pattern].replace("C(", "Conv<pads=[1,1,1,1]>(")
    shapes = {"w0": (32, 32, 3, 3), "w1": (32, 32, 3, 3), "w2": (32, 32, 3, 3)}
    shapes["w3"] = (32, 64, 3, 3)
    used = {n: rng.normal(0, 0.1, s).astype(np.float32) for n, s in shapes.items() if n in body}
    graph = graph_of(f"{IMAGE}{{{body}}}", used, OPSET)
    scheme, others = mixture
    quantized(graph, PlanOptions(scheme=scheme, scheme_for=others, concat=concat))
    assert not is_refused(lint(graph))
    runs = coverage(engine_of_graph(graph), ["a", "b", "c"])
    assert tuple(runs.values()) == MIXTURES[mixture]
