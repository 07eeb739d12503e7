"""What torch computes of quantizers is what NumPy says they are."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='pip install "onnxq[finetune]"')

from onnxq.finetune.quantizers import Rounding, fake_quant, pressure  # noqa: E402
from onnxq.numerics import amax_of, dequantize, grid_of, quantize, scale_of  # noqa: E402
from onnxq.numerics import fake_quant as oracle  # noqa: E402
from onnxq.passes.insert_qdq import Codes  # noqa: E402
from onnxq.spec import QuantSpec  # noqa: E402

RNG = np.random.default_rng(0)
WEIGHT_SPECS = [
    QuantSpec("int4"), QuantSpec("int4", "channel", 0), QuantSpec("int8", "channel", 1),
    QuantSpec("int4", "block", 1, 16), QuantSpec("int4-in-int8", "channel", 0),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "fp8", "fixed88"])
def test_a_fake_quantizer_is_that_of_numerics_to_the_bit(dtype):
    spec = QuantSpec(dtype)
    x = RNG.normal(size=5000).astype(np.float32) * 3
    limit = (-2.0, 5.0) if dtype == "uint8" else 4.3
    scale, zero = grid_of(limit, spec)
    found = fake_quant(torch.from_numpy(x), torch.tensor(float(scale)), spec, zero)
    assert np.array_equal(found.numpy(), oracle(x, limit, spec))


def test_an_activation_in_fp4_is_that_of_numerics_to_the_bit():
    spec = QuantSpec("fp4", "block", 1, 16)
    x = RNG.normal(size=(40, 64)).astype(np.float32) * 3
    x[0, :16] = 0
    found = fake_quant(torch.from_numpy(x), torch.from_numpy(scale_of(4.3, spec)), spec)
    assert np.array_equal(found.numpy(), oracle(x, 4.3, spec))


def test_the_gradient_of_a_scale_is_that_of_lsq():
    x = torch.tensor([0.3, 1.2, 200.0, -300.0])
    scale = torch.tensor(1.0, requires_grad=True)
    fake_quant(x, scale, QuantSpec()).sum().backward()
    # within the range round(v) - v, beyond it the code
    assert scale.grad.item() == pytest.approx((0 - 0.3) + (1 - 1.2) + 127 - 128, abs=1e-5)


@pytest.mark.parametrize("spec", WEIGHT_SPECS, ids=str)
def test_a_rounding_starts_at_the_codes_that_stand(spec):
    w = RNG.normal(size=(8, 40)).astype(np.float32)
    scale = scale_of(amax_of(w, spec), spec)
    codes = quantize(w + 0.6 * dequantize(np.ones_like(w), scale, spec), scale, spec)
    rounding = Rounding.of(w, Codes(scale, codes), spec, "cpu")
    found = rounding.codes()
    assert np.array_equal(found.codes, codes)
    assert found.codes.dtype == codes.dtype
    assert np.array_equal(found.scale, scale)
    written = dequantize(codes, scale, spec)
    assert np.array_equal(rounding.value(hard=True).detach().numpy(), written)


@pytest.mark.parametrize("spec", WEIGHT_SPECS, ids=str)
def test_the_other_code_of_a_rounding_is_one_further_toward_the_weight(spec):
    w = RNG.normal(size=(8, 40)).astype(np.float32)
    scale = scale_of(amax_of(w, spec) * 0.7, spec)  # some are clipped
    codes = quantize(w, scale, spec)
    rounding = Rounding.of(w, Codes(scale, codes), spec, "cpu")
    with torch.no_grad():
        rounding.v.neg_()
    other = rounding.codes().codes
    assert np.array_equal(np.abs(other - codes), np.ones_like(codes))
    assert other.min() >= spec.row.qmin
    assert other.max() <= spec.row.qmax
    exact = w / dequantize(np.ones_like(w), scale, spec)
    inner = (exact > spec.row.qmin) & (exact < spec.row.qmax)
    assert np.all((np.sign(other - codes) == np.sign(exact - codes))[inner & (exact != codes)])


def test_pressure_is_least_where_every_rounding_is_decided():
    h = torch.tensor([0.0, 1.0])
    assert pressure(h, 2.0).item() == 0
    assert pressure(torch.tensor([0.5]), 2.0).item() == 1
