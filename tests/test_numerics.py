"""The numbers, bit for bit: against a formula of their own and against ONNX Runtime."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from onnxq.errors import OnnxqError
from onnxq.numerics import (
    LEAST,
    MIN_SCALE,
    amax_of,
    dequantize,
    fake_quant,
    fits_fp16,
    has_scale,
    quantize,
    scale_of,
    sqnr_db,
)
from onnxq.spec import QuantSpec

TENSOR = QuantSpec()
DTYPES = {"int8": TensorProto.INT8, "int16": TensorProto.INT16}
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
RANGES = st.floats(min_value=2.0**-149, max_value=2.0**100, width=32)


def channel(axis: int, dtype: str = "int8") -> QuantSpec:
    return QuantSpec(dtype, "channel", axis)


def by_hand(x: float, scale: float, qmin: int, qmax: int) -> int:
    """The code of one value, in exact arithmetic after the one float32 division."""
    with np.errstate(over="ignore"):
        ratio = np.float32(x) / np.float32(scale)
    if not np.isfinite(ratio):
        return qmax if ratio > 0 else qmin
    return min(max(round(Fraction(float(ratio))), qmin), qmax)  # round() is half to even


def by_onnx_runtime(x: np.ndarray, scale: np.ndarray, spec: QuantSpec) -> list[np.ndarray]:
    """Codes and values of a QuantizeLinear and DequantizeLinear pair."""
    axis = {} if spec.axis is None else {"axis": spec.axis}
    zero = helper.make_tensor("z", DTYPES[spec.dtype], scale.shape, [0] * scale.size)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **axis),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **axis),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, scale.shape),
        ],
        [
            helper.make_tensor_value_info("q", DTYPES[spec.dtype], x.shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape),
        ],
        [zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x, "s": scale})


def awkward(scale: float) -> np.ndarray:
    """Halves, ends of the range and beyond, zeros, subnormals, the largest floats."""
    steps = np.arange(-130, 131, dtype=np.float32) / 2
    ends = np.array([126.5, 127, 127.49, 127.5, 128, 128.5, 1e4, 40000], np.float32)
    tiny = np.array([0, 1e-45, 1e-40, 2.0**-24, 2.0**-25, 3.4e38], np.float32)
    both = np.concatenate([steps * np.float32(scale), ends * np.float32(scale), tiny])
    return np.concatenate([both, -both])


@given(amax=RANGES, dtype=st.sampled_from(["int8", "int16", "int4"]))
def test_a_scale_is_amax_over_qmax_rounded_once_however_small_it_is(amax, dtype):
    spec = QuantSpec(dtype)
    expected = max(np.float32(amax) / np.float32(spec.row.qmax), np.float32(2.0**-63))
    scale = scale_of(amax, spec)
    assert scale.dtype == np.float32
    assert scale == expected
    step = min(scale, np.float32(1)) ** 2  # of the INT32 bias between two such scales
    assert step >= np.finfo(np.float32).smallest_normal


@given(amax=st.floats(0, 8e6, width=32))
def test_a_scale_for_a_half_graph_is_the_scale_that_graph_holds(amax):
    scale = scale_of(amax, TENSOR)
    assert scale_of(amax, TENSOR, "float16") == max(scale, LEAST["float16"]).astype(np.float16)
    assert scale_of(amax, TENSOR, "float16") > 0
    assert scale_of(amax, TENSOR, "bfloat16") == scale.astype(ml_dtypes.bfloat16)


def test_fp16_holds_a_scale_that_it_changes_by_less_than_a_step_of_the_largest_code():
    step = 2.0**-24  # least positive FP16
    for scale in (0, step, 64.5 * step, 1e-3, 65504):
        assert fits_fp16(np.array(scale, np.float32)), scale
    for scale in (1.3 * step, step / 3, 66000):
        assert not fits_fp16(np.array(scale, np.float32)), scale
    channels = np.array([1e-12, 1e-3], np.float32)
    assert fits_fp16(channels)
    assert not fits_fp16(channels[:1])


def test_a_range_whose_scale_would_be_below_the_least_has_none():
    least = 127 * 2.0**-63
    assert has_scale([0.0, least / 2, least, 1e-9], TENSOR).tolist() == [False, False, True, True]


def test_scales_keep_the_shape_of_their_ranges():
    for amax in (3.0, [1.0, 2.0, 0.0], np.ones((2, 3))):
        for dtype in ("float32", "float16", "bfloat16"):
            assert scale_of(amax, TENSOR, dtype).shape == np.shape(amax)


@pytest.mark.parametrize("amax", [-1.0, math.nan, math.inf, [1.0, -0.5], 1e300])
def test_a_range_that_is_negative_or_beyond_float32_is_refused(amax):
    with pytest.raises(OnnxqError, match="range"):
        scale_of(amax, TENSOR)


def test_a_scale_beyond_fp16_is_refused_and_fits_bf16():
    with pytest.raises(OnnxqError, match="overflows FP16; use bf16 or fp32"):
        scale_of(65536.0 * 127, TENSOR, "float16")
    assert scale_of(65536.0 * 127, TENSOR, "bfloat16") == 65536
    with pytest.raises(OnnxqError, match="choose float32, float16 or bfloat16"):
        scale_of(1.0, TENSOR, "float64")


@given(x=FLOATS, amax=RANGES, dtype=st.sampled_from(["int8", "int16", "int4"]))
@settings(max_examples=300)
def test_codes_are_the_formula_in_exact_arithmetic(x, amax, dtype):
    spec = QuantSpec(dtype)
    scale = scale_of(amax, spec)
    code = quantize(np.array([x], np.float32), scale, spec)
    assert code.tolist() == [by_hand(x, float(scale), int(spec.row.qmin), int(spec.row.qmax))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.1, 2.0**-24, 2.0**-63, 1 / 3, 1e30])
def test_awkward_values_match_onnx_runtime_bit_for_bit(scale, dtype):
    spec, s = QuantSpec(dtype), np.array(scale, np.float32)
    x = awkward(scale)
    codes, values = by_onnx_runtime(x, s, spec)
    np.testing.assert_array_equal(quantize(x, s, spec), codes)
    np.testing.assert_array_equal(dequantize(codes.astype(np.int32), s, spec), values)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_channel_axis_matches_onnx_runtime_bit_for_bit(axis, dtype):
    x = np.random.default_rng(axis).standard_normal((3, 4, 5, 6)).astype(np.float32)
    spec = channel(axis, dtype)
    amax = amax_of(x, spec) * np.linspace(0.3, 1, x.shape[axis])  # some values are clamped
    scale = scale_of(amax, spec)
    codes, values = by_onnx_runtime(x, scale, spec)
    np.testing.assert_array_equal(quantize(x, scale, spec), codes)
    np.testing.assert_array_equal(fake_quant(x, amax, spec), values)


def test_halves_round_to_even_and_codes_end_at_minus_128_and_127():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -128.5, 1e9, -1e9], np.float32)
    codes = quantize(x, np.array(1, np.float32), TENSOR)
    assert codes.dtype == np.int32
    assert codes.tolist() == [0, 2, 2, 0, -2, 126, 127, -128, 127, -128]


@given(arrays(np.float32, st.integers(1, 30), elements=st.floats(-100, 100, width=32)))
def test_fake_quant_is_idempotent_and_off_by_half_a_step_at_most(x):
    amax = amax_of(x, TENSOR)
    once = fake_quant(x, amax, TENSOR)
    np.testing.assert_array_equal(fake_quant(once, amax, TENSOR), once)
    scale = float(scale_of(amax, TENSOR))
    # half a step, and the rounding of x / scale and q * scale: 2 x 2^-24 of at most 127 steps
    limit = scale * (0.5 + 127 * 2.0**-23)
    assert np.abs(once.astype(np.float64) - x).max() <= limit


def test_zeros_stay_zeros_even_with_a_range_of_zero():
    x = np.zeros((2, 3), np.float32)
    assert amax_of(x, TENSOR) == 0
    assert scale_of(0.0, TENSOR) == MIN_SCALE
    assert not fake_quant(x, 0.0, TENSOR).any()
    assert not fake_quant(x, amax_of(x, channel(1)), channel(1)).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_channel_range_is_the_largest_magnitude_along_the_other_axes(axis):
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    expected = [np.abs(x.take(i, axis)).max() for i in range(x.shape[axis])]
    assert amax_of(x, channel(axis)).tolist() == expected


def test_an_empty_tensor_has_the_range_zero():
    assert amax_of(np.zeros((0, 3), np.float32), TENSOR) == 0
    assert amax_of(np.zeros((0, 3), np.float32), channel(1)).tolist() == [0, 0, 0]


def test_half_data_is_quantized_as_its_float32_values():
    x = np.random.default_rng(0).standard_normal(100).astype(np.float16)
    np.testing.assert_array_equal(
        fake_quant(x, 2.0, TENSOR), fake_quant(x.astype(np.float32), 2.0, TENSOR)
    )


def test_fp8_codes_are_the_nearest_e4m3_values_and_end_at_448():
    x = np.array([0.0, 17.0, 17.1, -19.0, 449.0, 1e9, 2.0**-10, 0.7 * 2.0**-9], np.float32)
    codes = quantize(x, np.array(1, np.float32), QuantSpec("fp8"))
    expected = [0.0, 16.0, 18.0, -20.0, 448.0, 448.0, 0.0, 2.0**-9]
    np.testing.assert_array_equal(codes, np.array(expected, np.float32))


def test_sqnr_is_ten_decibels_for_a_tenth_of_the_power():
    ref = np.array([3.0, 4.0])
    assert sqnr_db(ref, np.array([3, 4 + math.sqrt(2.5)])) == pytest.approx(
        10
    )  # last bit of the logs
    assert sqnr_db(ref, ref) == math.inf
    assert sqnr_db(np.zeros(2), ref) == -math.inf
    assert sqnr_db(ref * 1e-160, ref * 1e150) == pytest.approx(-6200)  # last bits of the logs


def every_e4m3() -> np.ndarray:
    """The finite values of FP8 E4M3."""
    values = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


@given(x=st.floats(-1000, 1000, width=32))
@settings(max_examples=300)
def test_fp8_rounds_to_the_nearest_value_and_halves_to_even_mantissas(x):
    grid = every_e4m3()
    found = float(quantize(np.array([x], np.float32), np.array(1, np.float32), QuantSpec("fp8"))[0])
    clipped = min(max(x, -448.0), 448.0)
    distance = np.abs(grid - clipped)
    nearest = grid[distance == distance.min()]
    assert found in nearest
    if len(nearest) == 2:  # a tie: the mantissa's last bit is 0
        code = int(np.float32(found).astype(ml_dtypes.float8_e4m3fn).view(np.uint8))
        assert code % 2 == 0


@given(scale=RANGES.filter(lambda s: 2.0**-24 <= s <= 2.0**60))
@settings(max_examples=50)
def test_every_fp8_value_times_its_scale_keeps_its_code(scale):
    grid, s = every_e4m3().astype(np.float32), np.float32(scale)
    spec = QuantSpec("fp8")
    np.testing.assert_array_equal(quantize(dequantize(grid, s, spec), s, spec), grid)


@given(amax=RANGES, dtype=st.sampled_from(["int4", "int4-in-int8", "int4-in-fp8"]))
def test_the_four_bit_types_hold_the_same_codes(amax, dtype):
    x = np.linspace(-2, 2, 41, dtype=np.float32) * np.float32(min(amax, 2.0**90))
    expected = fake_quant(x, amax, QuantSpec("int4"))
    np.testing.assert_array_equal(fake_quant(x, amax, QuantSpec(dtype)), expected)
    codes = quantize(x, scale_of(amax, QuantSpec(dtype)), QuantSpec(dtype))
    stored = helper.tensor_dtype_to_np_dtype(QuantSpec(dtype).row.onnx_type)
    np.testing.assert_array_equal(codes.astype(stored).astype(np.int32), codes)


@given(shape=st.lists(st.integers(1, 7), min_size=1, max_size=3), seed=st.integers(0, 999))
def test_int4_codes_survive_packing_at_odd_sizes(shape, seed):
    codes = np.random.default_rng(seed).integers(-8, 8, shape).astype(ml_dtypes.int4)
    tensor = numpy_helper.from_array(codes, "q")
    assert len(tensor.raw_data) == -(-codes.size // 2)  # two codes a byte
    np.testing.assert_array_equal(
        numpy_helper.to_array(tensor).astype(np.int32), codes.astype(np.int32)
    )


@given(
    length=st.integers(1, 40), size=st.integers(2, 16), axis=st.sampled_from([0, 1]),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_a_block_range_is_the_largest_magnitude_in_the_block(length, size, axis, seed):
    shape = (length, 3) if axis == 0 else (3, length)
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    spec = QuantSpec("int4", "block", axis, size)
    found = amax_of(x, spec)
    for i in range(-(-length // size)):
        block = x.take(range(i * size, min((i + 1) * size, length)), axis)
        np.testing.assert_array_equal(found.take(i, axis), np.abs(block).max(axis))
    assert np.abs(fake_quant(x, found, spec) - x).max() <= found.max() / 14 * (1 + 2**-20)


@given(seed=st.integers(0, 99), dtype=st.sampled_from(["int8", "int4", "fp8"]))
def test_one_block_is_a_channel_of_the_other_axis(seed, dtype):
    x = np.random.default_rng(seed).standard_normal((24, 5)).astype(np.float32)
    block, column = QuantSpec(dtype, "block", 0, 24), channel(1, dtype)
    np.testing.assert_array_equal(
        fake_quant(x, amax_of(x, block), block), fake_quant(x, amax_of(x, column), column)
    )
