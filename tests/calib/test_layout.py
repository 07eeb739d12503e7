"""Tensors observed in the layout that ONNX Runtime computes them in."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxq.calib.ways import compile_counting
from onnxq.model import graph as graphs
from onnxq.run import runtime
from onnxq.run.layout import laid_out
from onnxq.run.program import Runner, compile_program
from onnxq.run.segments import restrict

NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 3, H, W] x) => (float[N, 8, 1, 1] y)
{
  a = Conv <pads = [1, 1, 1, 1]> (x, w1)
  b = Relu(a)
  c = Conv <pads = [1, 1, 1, 1]> (b, w2)
  d = Sigmoid(c)
  e = Mul(c, d)
  f = Conv(e, w3)
  g = Add(f, b)
  h = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (g)
  i = Concat <axis = 1> (h, h)
  j = Conv(i, w4)
  k = HardSigmoid(j)
  l = Conv(k, w5)
  y = GlobalAveragePool(l)
}
"""
OBSERVED = ["x", "b", "e", "g", "h", "i", "k"]


def net(channels):
    """`channels` in the middle: 32 fill the blocks of every processor, 12 and 20 do not."""
    c = channels
    shapes = {
        "w1": (c, 3, 3, 3),
        "w2": (c, c, 3, 3),
        "w3": (c, c, 1, 1),
        "w4": (c, 2 * c, 1, 1),
        "w5": (8, c, 1, 1),
    }
    model = onnx.parser.parse_model(NET)
    rng = np.random.default_rng(c)
    for name, shape in shapes.items():
        w = rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(w.astype(np.float32), name))
    return graphs.from_proto(model)


def seen(program, sample):
    """Every value of each observed tensor in one run, sorted."""
    live = program.checked(sample)
    found = dict(live)
    for values in Runner(program).run(live):
        found |= {name: x.copy() for name, x in values.items()}
    return {name: np.sort(found[place], axis=None) for name, place in program.place.items()}


@pytest.mark.parametrize("channels", [12, 20, 32])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_tensor_has_the_same_values_in_whatever_order(channels, batch):
    graph = net(channels)
    x = np.random.default_rng(1).standard_normal((batch, 3, 24, 24)).astype(np.float32)
    plain = seen(compile_program(graph, OBSERVED, runtime.Runtime()), {"x": x})
    fast = seen(compile_counting(graph, OBSERVED, runtime.Runtime(), {"x": x}), {"x": x})
    assert fast.keys() == plain.keys()
    for name, values in plain.items():
        # kernels of another layout add up in another order: last bits of sums of up to 288 products
        np.testing.assert_allclose(fast[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_full_blocks_are_observed_in_place_and_padded_ones_behind_their_reorder():
    full = laid_out(restrict(net(32), OBSERVED[1:]), runtime.Runtime())
    padded = laid_out(restrict(net(12), OBSERVED[1:]), runtime.Runtime())
    if full is None or padded is None:
        pytest.skip("this processor has no blocked layout in ONNX Runtime")
    assert full.place["b"] != "b"
    assert padded.place["b"] == "b"
    assert not any(n.op == "ReorderOutput" and n.outputs[0].name == "b" for n in full.graph.nodes)


def test_a_graph_without_convolutions_is_left_as_it_is():
    text = """
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[N, 4] x) => (float[N, 4] y) { a = Relu(x) y = Neg(a) }
    """
    graph = graphs.from_proto(onnx.parser.parse_model(text))
    assert laid_out(restrict(graph, ["a"]), runtime.Runtime()) is None


def test_a_laid_out_graph_asks_for_no_domain_that_it_does_not_use():
    layout = laid_out(restrict(net(32), ["b"]), runtime.Runtime())
    if layout is None:
        pytest.skip("this processor has no blocked layout in ONNX Runtime")
    used = {node.domain or "" for node in layout.graph.nodes}
    assert {d.domain for d in graphs.to_proto(layout.graph).opset_import} <= {"", *used}
