"""Regions between cuts, and which of them pay: against all combinations tried out."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxq.cost.blocks import Block, Cut, Pays, paying, regions

BODY = """(float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
    a = Conv<kernel_shape = [1, 1]>(x, w)
    b = Relu(a)
    c = Conv<kernel_shape = [1, 1]>(b, w)
    d = Add(c, b)
    e = Relu(d)
    y = Conv<kernel_shape = [1, 1]>(e, w)
}"""
MS = st.floats(0, 1)


def named(graph_of):
    graph = graph_of(BODY, {"w": np.ones((4, 4, 1, 1), np.float32)})
    for node, name in zip(graph.nodes, "abcdef", strict=True):
        node.name = name
    return graph


def test_a_region_ends_where_one_tensor_crosses_and_a_residual_keeps_its_branches(graph_of):
    found = regions(named(graph_of), ["a", "c", "f"], [])
    assert found == [(("a",), ""), (("b", "c", "d"), "a"), (("e", "f"), "d")]


def test_a_kernel_is_not_cut(graph_of):
    found = regions(named(graph_of), ["a", "c", "f"], [("a", "b"), ("c", "d", "e"), ("f",)])
    assert found == [(("a", "b"), ""), (("c", "d", "e"), "b"), (("f",), "e")]


def test_a_region_has_something_to_quantize(graph_of):
    found = regions(named(graph_of), ["c"], [])
    assert [nodes for nodes, _ in found] == [tuple("abcdef")]


@given(st.lists(st.tuples(MS, MS, MS, MS), min_size=1, max_size=6))
def test_the_least_of_all_combinations_is_found(rows):
    blocks = [Block((str(i),), a, b) for i, (a, b, _, _) in enumerate(rows)]
    cuts = [Cut(q, w) for _, _, q, w in rows]

    def total(states):
        ms = sum(b.quantized_ms if s else b.float_ms for b, s in zip(blocks, states, strict=True))
        for i in range(1, len(states)):
            before, now = states[i - 1], states[i]
            ms += 0 if before == now else cuts[i].quantize if now else cuts[i].widen
        return ms

    marked, least = paying(blocks, cuts)
    best = min(map(total, product((False, True), repeat=len(blocks))))
    assert abs(least - best) < 1e-9
    assert abs(total([b.pays for b in marked]) - best) < 1e-9


def test_a_fast_node_between_slow_ones_does_not_pay_for_its_conversions():
    blocks = [Block(("a",), 1.0, 2.0), Block(("b",), 1.0, 0.9), Block(("c",), 1.0, 2.0)]
    assert not any(b.pays for b in paying(blocks, [Cut(0.1, 0.1)] * 3)[0])
    assert [b.pays for b in paying(blocks, [Cut(0.01, 0.01)] * 3)[0]] == [False, True, False]


def test_the_answer_is_one_line():
    blocks = (Block(("a",), 1.0, 0.5, True), Block(("b",), 1.0, 1.5))
    assert Pays(2.0, 2.0, 1.6, "fp16", "INT8", True, blocks).headline == (
        "INT8 pays in 1 of 2 blocks: predicted 1.6 ms (-20%) with the others in fp16, "
        "2 ms in fp16, 2 ms (+0%) with all quantized"
    )
    slower = Pays(2.0, 2.2, 1.99, "fp16", "INT8", False, blocks)
    assert slower.headline == ("INT8 does not pay: 2.2 ms (+10%) with all quantized, 2 ms in fp16; "
                               "leave it fp16")  # fmt: skip
    assert not slower.worth
