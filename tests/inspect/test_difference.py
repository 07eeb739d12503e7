"""Two models held against each other: placement, scales, codes, constants."""

import sys
from pathlib import Path

import numpy as np
import pytest

from onnxq.inspect.difference import MISSING, difference

sys.path.insert(0, str(Path(__file__).parent))
from qdq_models import FLOAT_WEIGHTS, STORED, WEIGHT, codes, numbers


@pytest.fixture
def arrays():
    return {"conv_weight_quantized": codes(), "other": WEIGHT, **numbers()}


@pytest.fixture
def differ(saved):
    """`differ(body, arrays, body, arrays)`"""
    from onnxq.inspect.reading import read

    def call(body_a, a, body_b, b):
        return difference(
            read(saved(body_a, name="a.onnx", **a)), read(saved(body_b, name="b.onnx", **b))
        )

    return call


def test_a_model_is_equal_to_itself(differ, arrays):
    found = differ(STORED, arrays, STORED, arrays)
    assert found.equal
    assert dict(found.compared) == {"nodes": 3, "tensors": 2, "constants": 1}


def test_weights_kept_in_float_are_equal_to_their_codes(differ, arrays):
    body = STORED.replace("conv_weight_quantized", "stored")
    del arrays["conv_weight_quantized"]
    floats = FLOAT_WEIGHTS.replace("y = Conv", "a = Conv") + "".join(STORED.partition("[relu]")[1:])
    found = differ(body, {"stored": codes(), **arrays}, floats, {"weight": WEIGHT, **arrays})
    assert found.equal


def test_a_scale_that_changed_is_told_in_decibels(differ, arrays):
    louder = {**arrays, "s": np.array(0.1, np.float32)}
    found = differ(STORED, arrays, STORED, louder)
    (change,) = found.scales
    assert (change.tensor, change.nodes, change.zero_points) == ("x", ("first",), None)
    assert change.change_db == pytest.approx(20 * np.log10(2))
    assert not found.placement
    assert not found.constants
    assert not found.equal


def test_a_zero_point_that_changed_is_a_change(differ, arrays):
    found = differ(STORED, arrays, STORED, {**arrays, "z": np.array(3, np.int8)})
    (change,) = found.scales
    assert (change.change_db, change.zero_points) == (0, (0, 3))


def test_codes_that_changed_are_counted_and_weighed(differ, arrays):
    other = codes()
    other[0] += 1 - 2 * (other[0] > 0)  # one channel of sixteen, by one step
    found = differ(STORED, arrays, STORED, {**arrays, "conv_weight_quantized": other})
    (change,) = found.scales
    assert change.codes_changed == 1 / 16
    scale = arrays["sw"].reshape(-1, 1, 1, 1).astype(np.float64)
    noise = (((other - codes().astype(int)) * scale) ** 2).sum()
    assert change.sqnr_db == pytest.approx(10 * np.log10(((codes() * scale) ** 2).sum() / noise))


def test_the_channel_that_changed_most_is_the_one_that_is_told(differ, arrays):
    scales = arrays["sw"].copy()
    scales[3] *= 0.5
    scales[5] *= 1.1
    (change,) = differ(STORED, arrays, STORED, {**arrays, "sw": scales}).scales
    assert change.change_db == pytest.approx(-20 * np.log10(2), abs=1e-4)  # float32 scales
    assert change.a == arrays["sw"][3]


def test_placement_comes_node_by_node_or_input_by_input(differ, arrays):
    found = differ(STORED, arrays, STORED.replace("(d, w)", "(x, other)"), arrays)
    assert [(p.node, p.input, p.a, p.b) for p in found.placement] == [
        ("first", None, "INT8", "FP32")
    ]
    per_tensor = {**arrays, "sw": np.array(0.02, np.float32), "zw": np.array(0, np.int8)}
    found = differ(STORED, arrays, STORED, per_tensor)
    assert [(p.node, p.input, p.a, p.b) for p in found.placement] == [
        ("first", 1, "INT8 per-channel axis 0", "INT8 per-tensor")
    ]


def test_nodes_that_one_model_lacks_come_last(differ, arrays):
    body = STORED.replace("(d, w)", "(x, other)").replace("[relu]", "[rectify]")
    found = differ(STORED, arrays, body, arrays)
    assert [(p.node, p.a, p.b) for p in found.placement] == [
        ("first", "INT8", "FP32"), ("relu", "FP32", MISSING), ("rectify", MISSING, "FP32"),
    ]  # fmt: skip


def test_constants_count_too(differ, arrays):
    found = differ(STORED, arrays, STORED, {**arrays, "other": WEIGHT * np.float32(1.1)})
    (change,) = found.constants
    assert (change.node, change.input, change.tensor) == ("second", 1, "other")
    assert change.sqnr_db == pytest.approx(20, abs=1e-3)  # float32 of 1.1
