"""Any tool's Q/DQ is read: names of the float model, types, scales, neighbours."""

import sys
from pathlib import Path

import numpy as np
import pytest

from onnxq.inspect.describe import coverage

sys.path.insert(0, str(Path(__file__).parent))
from qdq_models import CLIPPED, FLOAT_WEIGHTS, HALF, STORED, WEIGHT, codes, numbers


def test_stored_weights_go_by_the_name_that_they_had(reading):
    found = reading(STORED, conv_weight_quantized=codes(), other=WEIGHT, **numbers())
    first = found.by_name["first"]
    assert [(r.tensor, r.quantized.spec) for r in first.inputs] == [
        ("x", "INT8 per-tensor"),
        ("conv_weight", "INT8 per-channel axis 0"),
    ]
    assert (first.precision, first.after, found.by_name["relu"].before) == (
        "INT8", ("relu",), ("first",))  # fmt: skip
    assert (found.by_name["second"].precision, found.by_name["relu"].precision) == ("FP32", "FP32")
    assert [node.name for node in found.nodes] == ["first", "relu", "second"]


def test_weights_kept_in_float_have_the_codes_that_their_q_gives(reading):
    found = reading(FLOAT_WEIGHTS, weight=WEIGHT, **numbers())
    weight = found.grids["weight"][0]
    np.testing.assert_array_equal(weight.codes, codes())
    assert weight.at_end == np.mean(np.abs(codes()) == 127)


def test_a_half_graph_is_read_through_its_casts(reading):
    half = {k + "h": v for k, v in numbers(np.float16).items() if k in ("s", "sw")}
    found = reading(HALF, weight=WEIGHT.astype(np.float16), **half, **numbers())
    assert [n.name for n in found.nodes][:2] == ["relu", "first"]
    assert found.by_name["first"].precision == "INT8"
    assert found.by_name["first"].inputs[0].type == "FP16"
    assert found.by_name["relu"].inputs[0].quantized.name == "x"
    assert found.by_name["first"].before == ("relu",)


def test_a_clip_between_q_and_dq_makes_four_bits_of_eight(reading):
    bounds = {"least": np.array(-8, np.int8), "most": np.array(7, np.int8)}
    found = reading(CLIPPED, weight=WEIGHT, **bounds, **numbers())
    tensor = found.grids["x"][0]
    assert (tensor.label, tensor.storage) == ("INT4", "INT8")
    assert tensor.interval == pytest.approx((-7 * 0.05, 7 * 0.05))
    assert found.by_name["first"].precision == "INT4 x FP32 weights"
    assert len(found.nodes) == 1


def test_weights_that_fill_four_of_eight_bits_are_called_that(reading):
    found = reading(STORED, conv_weight_quantized=codes() // 16, other=WEIGHT, **numbers())
    assert found.by_name["first"].precision == "INT8 x INT4"


def test_a_zero_point_moves_what_codes_can_hold(reading):
    arrays = numbers(zero=100, code=np.uint8)
    found = reading(STORED, conv_weight_quantized=codes(), other=WEIGHT, **arrays)
    assert found.grids["x"][0].interval == pytest.approx((-5.0, 155 * 0.05))
    assert found.by_name["first"].precision == "UINT8 x INT8"


def test_weights_alone_are_said_to_be_alone(reading):
    arrays = {"conv_weight_quantized": codes(), "other": WEIGHT, **numbers()}
    found = reading(STORED.replace("(d, w)", "(x, w)"), **arrays)
    assert found.by_name["first"].precision == "INT8 weights"
    found = reading(STORED.replace("(d, w)", "(d, other)"), **arrays)
    assert found.by_name["first"].precision == "INT8 x FP32 weights"


def test_tensors_of_one_scale_are_found(reading):
    body = STORED.replace("(r, other)", "(dr, other)")
    body += "qr = QuantizeLinear(r, s, z)\n dr = DequantizeLinear(qr, s, z)"
    lines = body.strip().splitlines()
    lines = [*lines[:5], *lines[6:], lines[5]]
    found = reading("\n".join(lines), conv_weight_quantized=codes(), other=WEIGHT, **numbers())
    assert found.sharing(found.grids["x"][0]) == ["r"]


def test_coverage_counts_ops_by_precision_the_quantized_first(reading):
    found = reading(STORED, conv_weight_quantized=codes(), other=WEIGHT, **numbers())
    rows = [(r["op"], r["nodes"], r["quantized"], r["precisions"]) for r in coverage(found.nodes)]
    assert rows == [("Conv", 2, 1, {"INT8": 1, "FP32": 1}), ("Relu", 1, 0, {"FP32": 1})]


def test_a_scale_that_is_computed_is_not_made_up(reading):
    body = STORED.replace("q = Quant", "s = Mul(half, half)\n q = Quant")
    arrays = numbers() | {"half": np.array(0.2, np.float32)}
    del arrays["s"]
    found = reading(body, conv_weight_quantized=codes(), other=WEIGHT, **arrays)
    assert float(found.grids["x"][0].scale) == pytest.approx(0.04)  # of constants: known
    body = STORED.replace("q = Quant", "m = ReduceMax<keepdims = 0>(x)\n q = Quant")
    found = reading(body.replace(", s, z)", ", m, z)"), conv_weight_quantized=codes(),
                    other=WEIGHT, **numbers())  # fmt: skip
    assert found.grids["x"][0].scale is None
