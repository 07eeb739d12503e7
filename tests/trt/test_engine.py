"""Reading engines: what is recognised, and what is called unknown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxq.model.graph import Graph, from_proto
from onnxq.trt.engine import Engine, Kernel, coverage, precision_of, read_engine
from onnxq.trt.verdict import judge

Build = Callable[..., Engine]

LISTING = """header {
  version = VERSION
  accelerators={sm89 }
}
descriptors {
  tensor={ dims={ 1 32 8 8 } name="x.1" type=float }
  tensor={ dims={ 1 32 8 8 } name="q" type=int8 }
  tensor={ dims={ 32 32 1 1 } name="w" type=int8 }
  sub_tensor={ base="x.1" dims={ "N" 32 8 8 } name="y" type=float }
}
main {
 label bb1:
  signal={ name="s" stream=0  layers="" }
  function={ name=__myl_MulMinMaxRounCast input_args={ "x.1" } output_args={ "q" } layers="QUANT" }
  corrltn={ name="c" output={"y" } input={"q" "w" } stream=0  layers="CONV" }
}
"""


def listing(version: int = 5) -> bytes:
    text = LISTING.replace("VERSION", str(version))
    text = text.replace("QUANT", "[ONNX Layer: x_q]")
    text = text.replace("CONV", "[ONNX Layer: a/b[0].c]\x1f[ONNX Layer: x_dq]")
    return b"\x00\xff binary" + text.encode() + b"\xfe more"


def test_a_listing_is_found_among_binary_data_and_read() -> None:
    engine = read_engine(listing())
    assert engine.accelerators == ("sm89",)
    assert [k.kind for k in engine.kernels] == ["function", "corrltn"]
    assert engine.kernels[1].layers == ("a/b[0].c", "x_dq")
    assert engine.kernels[1].inputs == ("int8", "int8")
    assert precision_of(engine, "a/b[0].c") == "int8"


def test_traffic_counts_the_bytes_read_and_written_and_is_none_where_a_shape_is_dynamic() -> None:
    engine = read_engine(listing())
    assert engine.kernels[0].traffic == 32 * 8 * 8 * (4 + 1)
    assert engine.kernels[1].traffic is None
    assert engine.traffic is None


def test_an_unknown_version_is_not_read_but_reported() -> None:
    engine = read_engine(listing(version=6))
    assert not engine.readable
    assert engine.kernels == ()
    assert "version 6" in engine.reason
    assert precision_of(engine, "a/b[0].c") == "unknown"


@pytest.mark.parametrize("data", [b"", b"ftrt\x00\x01", listing()[:200]])
def test_bytes_without_a_whole_listing_are_not_readable(data: bytes) -> None:
    assert "no plain-text listing" in read_engine(data).reason


def test_a_node_that_no_kernel_names_is_folded() -> None:
    assert precision_of(read_engine(listing()), "elsewhere") == "folded"


def test_a_node_that_may_be_in_a_product_without_names_is_unknown() -> None:
    nameless = Kernel("runtime_fusion", "__myl_FcAdd", (), ("half",) * 3, ("half",), 0)
    assert precision_of(Engine((nameless,)), "n") == "unknown"


@pytest.mark.parametrize(
    ("name", "outputs", "expected"),
    [
        ("__myl_MulMinMaxRounCast", ("int8",), True),
        ("__myl_MulMinMaxRounCastReshConcResh", ("int8",), True),
        ("__myl_CastMulCast", ("half",), True),
        ("__myl_MulMinMaxRounCastCastMul", ("float",), True),
        ("__myl_MulCast", ("fp8_e4m3",), True),
        ("__myl_MulCast", ("half",), False),  # the tail of a product
        ("__myl_MulAddReluMulMinMaxRounCast", ("int8",), False),
        ("__myl_MulMulMinMaxRounCast", ("int8",), False),  # the tail of a product, then Q
        ("__myl_TranReshMove", ("float",), False),
        ("conv_MulCast", ("float",), False),
    ],
)
def test_kernels_that_only_quantize_are_told_from_fused_ones(
    name: str, outputs: tuple[str, ...], expected: bool
) -> None:
    assert Kernel("function", name, (), ("float",), outputs, 0).quantizes is expected


def test_a_kernel_that_dequantizes_before_its_product_computes_in_float() -> None:
    types = ("int8", "float", "int8")
    kernel = Kernel("runtime_fusion", "__myl_CastMulCastMulCastFc", ("n",), types, ("float",), 0)
    assert precision_of(Engine((kernel,)), "n") == "fp32"


def int8_gemm(axis: int) -> Graph:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 13]>
    g (float[16,64] x) => (float[16,64] y)
      <float s = {{0.1}}, int8 z = {{0}}> {{
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        v = DequantizeLinear<axis={axis}>(w, ws, wz)
        y = Gemm<transB=1>(d, v)
    }}""")
    rng = np.random.default_rng(0)
    arrays = {"w": rng.integers(-127, 127, (64, 64)).astype(np.int8),
              "ws": np.full(64, 0.01, np.float32), "wz": np.zeros(64, np.int8)}  # fmt: skip
    for name, values in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    model.graph.node[-1].name = "gemm"
    return from_proto(model)


@pytest.mark.parametrize(("axis", "expected"), [(0, "int8"), (1, "fp32")])
def test_a_weight_scale_along_the_contraction_builds_but_runs_in_float(
    axis: int, expected: str, engine_of_graph: Build
) -> None:
    assert precision_of(engine_of_graph(int8_gemm(axis)), "gemm") == expected


def test_attention_in_fp16_is_one_fused_kernel(graph_of: Callable, engine_of_graph: Build) -> None:
    shape = "float16[1,4,64,64]"
    graph = graph_of(f"""({shape} q, {shape} k, {shape} v) => ({shape} y) {{
        t = Transpose<perm=[0, 1, 3, 2]>(k)
        s = MatMul(q, t)
        p = Softmax<axis=-1>(s)
        y = MatMul(p, v)
    }}""")
    for node in graph.nodes:
        node.name = node.outputs[0].name
    engine = engine_of_graph(graph)
    assert coverage(engine, ["s", "y"]) == {"s": "fp16", "y": "fp16"}
    assert sum(k.is_product for k in engine.kernels) == 1


@pytest.mark.parametrize("bias", ["b", "c"])
def test_one_of_two_equal_convs_runs_as_the_one_that_the_engine_kept(
    bias: str, graph_of: Callable, quantized: Callable, engine_of_graph: Build
) -> None:
    rng = np.random.default_rng(0)
    graph = graph_of(
        "(float[1,32,8,8] x) => (float[n,c,h,w] y) "
        f"{{r = Relu(x) d = Conv(r, w, b) e = Conv(r, w, {bias}) y = Add(d, e)}}",
        {"w": rng.normal(0, 0.1, (32, 32, 3, 3)).astype(np.float32),
         **{n: rng.normal(0, 0.1, 32).astype(np.float32) for n in sorted({"b", bias})}},
    )  # fmt: skip
    for node in graph.nodes:
        node.name = f"/{node.outputs[0].name}"
    quantized(graph)
    assert judge(graph, engine_of_graph(graph)).missed == []
