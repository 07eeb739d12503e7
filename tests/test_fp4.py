"""NVFP4: its numbers, how it is written, and the float stand-in that ONNX Runtime runs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from ml_dtypes import float8_e4m3fn

import onnxq
from onnxq import fp4
from onnxq.errors import CannotRun, PlanError
from onnxq.inspect.reading import read
from onnxq.model.graph import constant_of, load, save, to_proto
from onnxq.numerics import amax_of, fake_quant, quantize, scale_of, sqnr_db
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.passes.strip_qdq import strip_qdq
from onnxq.passes.to_half import to_half
from onnxq.plan import Plan
from onnxq.recover.descent import descended
from onnxq.recover.feedback import beside_of, error, rounder_of
from onnxq.run import runtime
from onnxq.spec import Edge, QuantSpec
from onnxq.targets.options import PlanOptions
from onnxq.targets.placement import plan as plan_of

OPSET = 23
ROWS, COLUMNS = QuantSpec("fp4", "block", 2, 16), QuantSpec("fp4", "block", 0, 16)
PLAN = Plan("m", "tensorrt", {Edge("op", 0): ROWS, Edge("op", 1): COLUMNS})
PRODUCT = "(float[2,n,64] x) => (float[2,n,24] y) {[op] y = MatMul(x, w)}"
# (body, shapes of constants, the rule or reason of node "op")
ELSEWHERE = {
    "Conv": ("(float[1,16,8,8] x) => (float[n,c,h,i] y) {[op] y = Conv(x, w)}", (16, 16, 3, 3),
             "no FP4 Conv"),
    "K": ("(float[8,40] x) => (float[8,32] y) {[op] y = MatMul(x, w)}", (40, 32), "multiple of 16"),
    "rank": ("(float[1,2,8,64] x) => (float[1,2,8,32] y) {[op] y = MatMul(x, w)}", (64, 32),
             "two or three dimensions"),
    "transA": ("(float[64,32] x) => (float[32,32] y) {[op] y = Gemm<transA=1>(x, w)}", (64, 32),
               "is transposed"),
    "left": ("(float[64,32] x) => (float[48,32] y) {[op] y = MatMul(w, x)}", (48, 64),
             "not the right operand"),
}  # fmt: skip


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def wide(*shape, seed=1):
    """Values of many sizes, with a block of zeros and one of next to nothing."""
    x = floats(*shape, seed=seed) * np.exp(2 * floats(*shape, seed=seed + 1))
    x[0, 0, :16], x[0, 0, 16:32] = 0, 1e-9
    return x


@pytest.fixture
def product(graph_of):
    w = floats(64, 24)
    w[:16, 3] = 0
    graph = graph_of(PRODUCT, {"w": w}, OPSET)
    insert_qdq(graph, PLAN, {"x": 3.0})
    return w, graph


def test_every_half_float_goes_to_the_nearest_code_and_from_the_middle_to_the_even_one():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = every[np.isfinite(every)].astype(np.float32)
    grid = np.array(fp4.CODES, np.float32)
    away = np.abs(np.abs(x)[:, None] - grid)
    even = np.arange(8) % 2  # of the codes in order: the last bit of the mantissa
    place = np.lexsort((np.broadcast_to(even, away.shape), away))[:, 0]
    np.testing.assert_array_equal(fp4.rounded(x), np.sign(x) * grid[place])


def test_the_scale_of_a_block_is_an_fp8_number_times_that_of_the_tensor():
    s = fp4.tensor_scale(2688.0, 0.0)
    assert s == 1
    ratio = np.array(
        [0, 2**-12, 2**-9, 3.3 * 2**-9, 0.0151, 1.0625, 1.07, 447, 449, 1e9], np.float32
    )
    expected = np.clip(ratio, 2**-9, 448).astype(float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(fp4.block_scales(6 * ratio, s), expected)


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 300.0])
def test_both_factors_of_the_scales_are_found_again(size):
    w = wide(8, 64, 32) * np.float32(size)
    scale = scale_of(amax_of(w[0], COLUMNS), COLUMNS)
    b, s = fp4.factored(scale)
    assert b.dtype == float8_e4m3fn
    np.testing.assert_array_equal(b.astype(np.float32) * s, scale)
    with pytest.raises(ValueError, match="no FP8 numbers"):
        fp4.factored(scale * np.linspace(1, 2, scale.size, dtype=np.float32).reshape(scale.shape))


@pytest.mark.parametrize("half", [False, True], ids=["fp32 around", "fp16 around"])
def test_the_stand_in_computes_fake_quant_bit_for_bit(product, half):
    w, graph = product
    if half:
        to_half(graph)
    model = to_proto(graph)
    onnx.checker.check_model(model, full_check=True)
    for name in ("x_dequantized", "w_dequantized"):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    x = wide(2, 5, 64)
    y, x4, w4 = runtime.session(model, threads=1).run(None, {"x": x})
    seen = x.astype(np.float16).astype(np.float32) if half else x
    np.testing.assert_array_equal(x4, fake_quant(seen, 3.0, ROWS))
    np.testing.assert_array_equal(w4, fake_quant(w, amax_of(w, COLUMNS), COLUMNS))
    # sums of the same values in another order, in FP16 of 11 bits
    np.testing.assert_allclose(y, x4 @ w4, rtol=4e-3 if half else 1e-5, atol=0.1 if half else 1e-4)


def test_a_plain_session_cannot_load_it_and_says_why(product):
    with pytest.raises(CannotRun, match="no kernels for FP4"):
        runtime.session(to_proto(product[1]), runtime.Runtime(plain=True))


def test_weights_are_packed_and_the_quantizer_is_tensorrts_own(product, tmp_path):
    graph = product[1]
    save(graph, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    stored = {t.name: (t.data_type, len(t.raw_data)) for t in model.graph.initializer}
    assert stored["w_quantized"] == (onnx.TensorProto.FLOAT4E2M1, 64 * 24 // 2)
    assert stored["w_block_scale"] == (onnx.TensorProto.FLOAT8E4M3FN, 4 * 24)
    node = next(n for n in model.graph.node if n.op_type == "TRT_FP4DynamicQuantize")
    assert node.domain == "trt"
    assert {a.name: a.i for a in node.attribute} == {"axis": 2, "block_size": 16, "scale_type": 17}
    again = to_proto(load(tmp_path / "m.onnx"))
    assert {t.name: t.raw_data for t in again.graph.initializer} == {
        t.name: t.raw_data for t in model.graph.initializer
    }


def test_without_its_qdq_it_is_the_float_model_with_rounded_weights(product):
    w, graph = product
    assert strip_qdq(graph) == 2
    (node,) = graph.nodes
    assert node.inputs[0].name == "x"
    expected = fake_quant(w, amax_of(w, COLUMNS), COLUMNS)
    np.testing.assert_array_equal(node.inputs[1].values, expected)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_has_no_fp4_kernel_gets_fp8_and_the_plan_says_why(name, graph_of, tmp_path):
    body, shape, reason = ELSEWHERE[name]
    options = PlanOptions(scheme="w8a8", scheme_for=("op=nvfp4",))
    plan = plan_of(graph_of(body, {"w": floats(*shape)}, OPSET), options, "m")
    assert reason in plan.rules["op"]
    assert {spec.dtype for spec in plan.edges.values()} == {"fp8"}
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan


@pytest.mark.parametrize("name", ["Conv", "K"])
def test_a_model_with_nothing_for_fp4_is_refused_in_a_line(name, graph_of):
    body, shape, reason = ELSEWHERE[name]
    graph = graph_of(body, {"w": floats(*shape)}, OPSET)
    with pytest.raises(PlanError, match=f"nothing to quantize to FP4: .*{reason}.*choose fp8"):
        plan_of(graph, PlanOptions(scheme="nvfp4"), "m")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "onnxruntime"}, "--target onnxruntime cannot run scheme 'nvfp4'"),
        ({"block_size": 32}, "has blocks of 16 and no others"),
    ],
)
def test_what_cannot_be_is_refused(options, said, graph_of):
    with pytest.raises(PlanError, match=said):
        plan_of(
            graph_of(PRODUCT, {"w": floats(64, 24)}), PlanOptions(scheme="nvfp4", **options), "m"
        )


@pytest.mark.parametrize("spec", ["fp4 per-tensor", "fp4 per-block 32 axis 0"])
def test_a_plan_with_other_blocks_than_fp4_has_is_refused(spec, graph_of):
    graph = graph_of(PRODUCT, {"w": floats(64, 24)}, OPSET)
    with pytest.raises(PlanError, match="FP4 has blocks of 16"):
        insert_qdq(graph, Plan("m", "tensorrt", {Edge("op", 1): QuantSpec.parse(spec)}), {})


def test_learned_codes_are_fp4_and_none_alone_is_better():
    rng = np.random.default_rng(5)
    w, x = rng.standard_normal((2, 6, 32)), rng.standard_normal((2, 32, 80))
    h = x @ x.swapaxes(1, 2)
    s = np.repeat(
        fp4.block_scales(np.abs(w).reshape(2, 6, 2, 16).max(-1), np.float32(1e-3)), 16, -1
    )
    rounder, beside = rounder_of(ROWS), beside_of(ROWS)
    nearest = rounder(w / s)
    codes = descended(w, s, nearest, h, rounder, beside)
    least = error(codes * s - w, h)
    assert np.isin(np.abs(codes), fp4.CODES).all()
    assert least.sum() < 0.8 * error(nearest * s - w, h).sum()
    for k in range(32):
        for by in (-1, 1):
            other = codes.copy()
            other[..., k] = beside(codes[..., k], by)
            assert np.all(error(other * s - w, h) >= least - 1e-9 * least)


def test_smoothing_has_nothing_to_do_where_blocks_have_scales_of_their_own(quantized):
    folder, _ = quantized
    made = onnxq.quantize(
        folder / "m.onnx", folder / "x.npy", scheme="nvfp4", skip=["b"], recover="smooth"
    )
    (found,) = made.manifest["recovered"]
    assert found["notes"] == ["no activation here can be smoothed"]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """A model of two products and data, quantized; the folder."""
    folder = tmp_path_factory.mktemp("fp4")
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,8,64] x) => (float[1,8,32] y) {'
        "[a] h = MatMul(x, w) r = Relu(h) [b] y = MatMul(r, v)}"
    )
    model = onnx.parser.parse_model(text)
    for name, shape in {"w": (64, 40), "v": (40, 32)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(floats(*shape, seed=7), name))
    onnx.save(model, folder / "m.onnx")
    np.save(folder / "x.npy", floats(24, 1, 8, 64, seed=3) @ floats(64, 64, seed=4) / 8)
    made = onnxq.quantize(folder / "m.onnx", folder / "x.npy", scheme="nvfp4", recover="round")
    made.save(folder / "q.onnx")
    return folder, made


def test_a_quantized_model_is_judged_by_the_stand_in_and_says_so(quantized):
    folder, made = quantized
    assert made.plan.rules == {
        "a": "weighted-MatMul",
        "b": "not-fp4: what it sums over is no multiple of 16 that is known beforehand",
    }
    assert any("float stand-in with the same numbers" in note for note in made.manifest["notes"])
    x, y = np.load(folder / "x.npy")[0], {}
    for name in ("m", "q"):
        y[name] = runtime.session(folder / f"{name}.onnx").run(None, {"x": x})[0]
    assert sqnr_db(y["m"], y["q"]) == pytest.approx(made.agreement["y"].sqnr_db, abs=3)
    assert 14 < made.agreement["y"].sqnr_db < 30  # 4 bits: about 20


def test_rounded_weights_are_codes_of_fp4_that_lose_less(quantized):
    (found,) = [r for r in quantized[1].manifest["recovered"] if r["algorithm"] == "rounding"]
    assert found["gain_db"]["a"] > 0.5
    graph = load(quantized[0] / "q.onnx")
    codes = constant_of(graph.tensors()["w_quantized"]).astype(np.float32)
    assert np.isin(np.abs(codes), fp4.CODES).all()
    w = floats(64, 40, seed=7)
    nearest = quantize(w, scale_of(amax_of(w, COLUMNS), COLUMNS), COLUMNS)
    assert 0.05 < np.mean(codes != nearest) < 0.95


def test_it_can_be_quantized_anew_from_what_it_computes(quantized):
    folder, _ = quantized
    again = onnxq.quantize(
        folder / "q.onnx", folder / "x.npy", requantize=True, recover="none", samples=4
    )
    assert {spec.dtype for spec in again.plan.edges.values()} == {"int8"}
    assert again.agreement["y"].sqnr_db > 15


def test_inspection_shows_products_and_no_scales_of_scales(quantized):
    found = read(quantized[0] / "q.onnx")
    assert [(n.op, n.precision) for n in found.nodes] == [
        ("MatMul", "FP4"), ("Relu", "FP32"), ("MatMul", "FP8")
    ]  # fmt: skip
    x, w = found.nodes[0].grids
    assert (x.spec, w.spec) == ("FP4 per-block 16 axis 2", "FP4 per-block 16 axis 0")
    assert x.interval[1] == pytest.approx(np.abs(np.load(quantized[0] / "x.npy")).max(), rel=0.3)
