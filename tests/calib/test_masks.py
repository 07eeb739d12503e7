"""Inputs that only mask may hold -inf; all others are finite."""

import numpy as np
import onnx
import pytest

from onnxq.calib.data import InputInfo, open_data
from onnxq.calib.data_check import drop_nonfinite, examine
from onnxq.calib.masks import mask_inputs
from onnxq.model.graph import from_proto

HEAD = '<ir_version: 8, opset_import: ["": 17]> g (float[2, 4] x, float[2, 4] m) => (float[2, 4] y)'


def masks(body):
    return mask_inputs(from_proto(onnx.parser.parse_model(f"{HEAD} {{ {body} }}")))


@pytest.mark.parametrize(
    "body",
    [
        "s = Add(x, m) y = Softmax<axis = -1>(s)",
        "s = Add(m, x) y = LogSoftmax<axis = -1>(s)",
        "t = Transpose<perm = [1, 0]>(m) u = Transpose<perm = [1, 0]>(t) s = Add(x, u) "
        "y = Softmax<axis = -1>(s)",
        "k = Constant<value = float {2.0}>() n = Mul(m, k) s = Add(x, n) y = Softmax<axis = -1>(s)",
        "z = Constant<value = float {0.0}>() c = Greater(x, z) s = Where(c, x, m) "
        "y = Softmax<axis = -1>(s)",
    ],
)
def test_what_only_a_softmax_sees_masks(body):
    assert "m" in masks(body)


@pytest.mark.parametrize(
    "body",
    [
        "y = Add(x, m)",
        "s = Add(x, m) p = Softmax<axis = -1>(s) y = Mul(p, m)",
        "s = Mul(x, m) y = Softmax<axis = -1>(s)",
        "r = Relu(m) s = Add(x, r) y = Softmax<axis = -1>(s)",
    ],
)
def test_what_is_read_as_a_number_does_not(body):
    assert "m" not in masks(body)


def test_minus_infinity_is_sound_in_a_mask_alone(tmp_path):
    x, m = np.ones((4, 2, 4), np.float32), np.zeros((4, 2, 4), np.float32)
    x += np.arange(4, dtype=np.float32)
    m[:, 0, 1], m[1, 1, 1], x[2, 0, 0] = -np.inf, np.nan, -np.inf
    np.savez(tmp_path / "d.npz", x=x, m=m)
    info = InputInfo((2, 4), np.dtype(np.float32))
    dataset = open_data(str(tmp_path / "d.npz"), {"x": info, "m": info})
    assert examine(dataset).nonfinite == (0, 1, 2, 3)
    assert examine(dataset, {"m"}).nonfinite == (1, 2)
    assert len(drop_nonfinite(dataset, {"m"})) == 2
