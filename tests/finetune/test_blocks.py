"""Where a graph is cut into blocks, and what is learned in which."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.finetune.blocks import MOST, blocks_of, whole_of
from onnxq.passes.prepare import prepare
from onnxq.recover.sites import find_sites
from onnxq.run import segments
from onnxq.targets import tensorrt
from onnxq.targets.options import PlanOptions

RNG = np.random.default_rng(0)
RESIDUAL = """(float[1,16,8,8] x) => (float[1,16,8,8] y) {
  [c0] a0 = Conv<pads = [1,1,1,1]>(x, w0)  r0 = Relu(a0)
  [c1] a1 = Conv<pads = [1,1,1,1]>(r0, w1)  r1 = Relu(a1)
  [c2] a2 = Conv<pads = [1,1,1,1]>(r1, w2)  s2 = Add(a2, r0)  r2 = Relu(s2)
  [c3] a3 = Conv<pads = [1,1,1,1]>(r2, w3)  r3 = Relu(a3)
  [c4] a4 = Conv<pads = [1,1,1,1]>(r3, w4)  s4 = Add(a4, r2)  r4 = Relu(s4)
  [c5] a5 = Conv<pads = [1,1,1,1]>(r4, w5)  y = Sigmoid(a5)
}"""
SILU = """(float[1,16,8,8] x) => (float[1,16,8,8] y) {
  [c0] a = Conv<pads = [1,1,1,1]>(x, w0)  b = Sigmoid(a)  c = Mul(a, b)
  [c1] d = Conv<pads = [1,1,1,1]>(c, w1)  e = Sigmoid(d)  f = Mul(d, e)
  [c2] g = Conv<pads = [1,1,1,1]>(f, w2)  h = Sigmoid(g)  i = Mul(g, h)
  [c3] j = Conv<pads = [1,1,1,1]>(i, w3)  k = Sigmoid(j)  y = Mul(j, k)
}"""


@pytest.fixture
def cut(graph_of):
    """`cut(body)`: the graph, its blocks, and the graph as one block."""

    def make(body):
        weights = {f"w{k}": RNG.normal(size=(16, 16, 3, 3)).astype(np.float32) for k in range(6)
                   if f"w{k})" in body}  # fmt: skip
        graph = prepare(graph_of(body, weights))
        plan = tensorrt.plan(graph, PlanOptions(scheme="w4a8"), "m")
        part = segments.restrict(graph, ["y"])
        sites = find_sites(part, plan, [node.name for node in part.nodes])
        blocks = blocks_of(part, plan, sites, ["y"])
        return part, blocks, whole_of(part, plan, sites, ["y"])

    return make


@pytest.mark.parametrize("body", [RESIDUAL, SILU], ids=["residual", "silu"])
def test_every_node_weight_and_bias_is_in_one_block(cut, body):
    part, blocks, whole = cut(body)
    assert [n.name for b in blocks for n in b.segment.nodes] == [n.name for n in part.nodes]
    weights = [w for b in blocks for w in b.weights]
    assert len(weights) == len(set(weights)) == body.count("Conv<")
    assert sorted(s.node for b in blocks for s in b.sites) == sorted(s.node for s in whole.sites)
    assert all(len(b.weights) <= MOST for b in blocks)
    assert len(blocks) > 1


def test_a_residual_block_ends_behind_its_sum_and_activation(cut):
    _, blocks, _ = cut(RESIDUAL)
    assert [b.segment.outputs for b in blocks] == [("r2",), ("r4",), ("y",)]


def test_no_block_ends_between_an_op_and_its_activation(cut):
    _, blocks, _ = cut(SILU)
    assert {name for b in blocks for name in b.segment.outputs} <= {"c", "f", "i", "y"}


def test_a_range_that_two_blocks_read_is_learned_in_none(cut):
    _, blocks, whole = cut(RESIDUAL)
    for block in blocks:
        read = {t.name for n in block.segment.nodes for t in n.inputs}
        others = {
            t.name for b in blocks if b is not block for n in b.segment.nodes for t in n.inputs
        }
        assert all(set(group) <= read - others for group in block.groups)
    assert {g for b in blocks for g in b.groups} <= set(whole.groups)
