"""A tensor that is quantized anyway is read so by sums and Concats too: no float copy of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxq.model.graph import Graph
from onnxq.passes.prepare import prepare
from onnxq.plan import Plan
from onnxq.spec import Edge
from onnxq.targets.options import PlanOptions
from onnxq.targets.tensorrt import plan

Make = Callable[[str], Plan]
HEADER = "(float[1,16,8,8] x) => (float[n,c,h,w] y)"
SHAPES = {"w0": (16, 16, 3, 3), "w1": (16, 16, 3, 3), "w2": (16, 16, 3, 3), "wide": (16, 32, 3, 3),
          "wider": (16, 48, 3, 3), "deep": (32, 16, 3, 3), "flat": (8, 8)}  # fmt: skip
SILU = "g = Sigmoid(c) d = Mul(c, g)"


@pytest.fixture
def made(graph_of: Callable[..., Graph], rng: np.random.Generator) -> Callable[..., Plan]:
    """`made(body, options)`: the plan; C(t, w) is a 3 x 3 Conv, and `up` doubles."""

    def make(body: str, options: PlanOptions | None = None) -> Plan:
        body = body.replace("C(", "Conv<pads=[1, 1, 1, 1]>(")
        weights = {n: rng.normal(0, 0.1, s).astype(np.float32) for n, s in SHAPES.items()}
        weights |= {"up": np.array([1, 1, 2, 2], np.float32)}
        weights |= {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
        weights |= {"from": np.array([1, 1]), "to": np.array([7, 7]), "axes": np.array([2, 3])}
        used = {n: v for n, v in weights.items() if f"{n})" in body or f"{n}," in body}
        return plan(prepare(graph_of(f"{HEADER} {{ {body} }}", used)), options or PlanOptions(), "")

    return make


def quantized(plan: Plan, rule: str) -> set[Edge]:
    return {edge for edge in plan.edges if plan.rules[edge.node] == rule}


def residual(tail: str) -> str:
    block = f"a = C(x, w0) b = C(a, w1) r = Relu(b) c = C(r, w2) {tail}"
    return f"{block} [add] e = Add(d, a) f = Mul(e, {'z' if ' z = ' in tail else 'x'}) y = C(f, w0)"


@pytest.mark.parametrize("tail", [SILU, "d = Relu(c)", "d = HardSwish(c)"])
def test_the_skip_branch_is_read_quantized_where_the_other_ends_in_an_activation(
    tail: str, made: Make
) -> None:
    assert quantized(made(residual(tail)), "residual-skip") == {Edge("add", 1)}


@pytest.mark.parametrize(
    "tail",
    ["d = Neg(c)", f"{SILU} z = Neg(d)", "g = Sigmoid(b) d = Mul(c, g)"],
    ids=["another op", "another reader", "gate of another tensor"],
)
def test_the_skip_branch_stays_float_where_no_conv_ends_in_the_sum(tail: str, made: Make) -> None:
    assert not quantized(made(residual(tail)), "residual-skip")


def test_the_skip_branch_of_a_sum_behind_a_product_of_matrices_stays_float(made: Make) -> None:
    body = "a = MatMul(x, flat) b = Relu(a) m = MatMul(b, flat) e = Add(m, b) y = MatMul(e, flat)"
    assert not quantized(made(body), "residual-skip")


SHORTCUT = "a = C(x, w0) [cut] s = Slice(a, from, to, axes) p = Pad(s, pads) c = C(a, w1)"


def test_a_shortcut_of_slice_and_pad_reads_the_quantized_tensor(made: Make) -> None:
    found = made(f"{SHORTCUT} [add] e = Add(c, p) y = C(e, w2)")
    assert quantized(found, "residual-skip") == {Edge("cut", 0)}
    skipped = made(f"{SHORTCUT} [add] e = Add(c, p) y = C(e, w2)", PlanOptions(skip=("cut",)))
    assert not quantized(skipped, "residual-skip")
    assert skipped.skipped["add"] == "--skip cut"


CONCAT = "a = C(x, w0) b = C(a, w1) [cat] c = Concat<axis=1>(a, b) y = C(c, wide)"


def test_a_branch_of_a_concat_that_a_conv_reads_too_is_stored_once(made: Make) -> None:
    found = made(CONCAT)
    assert quantized(found, "concat-reuse") == {Edge("cat", 0)}
    assert not found.tied  # each keeps its range


@pytest.mark.parametrize(
    "options", [PlanOptions(concat="float"), PlanOptions(skip=("cat",))], ids=["float", "skip"]
)
def test_a_concat_stays_float_if_asked(options: PlanOptions, made: Make) -> None:
    assert not quantized(made(CONCAT, options), "concat-reuse")


def test_the_branch_that_is_computed_last_is_not_rounded_twice(made: Make) -> None:
    body = "a = C(x, w0) [cat] c = Concat<axis=1>(x, a) d = C(a, w1) y = C(c, wide) z = Neg(d)"
    assert quantized(made(body), "concat-reuse") == {Edge("cat", 0)}


BOTTLENECKS = """a = C(x, w0) b = C(a, w1) c = C(b, w2) e = Add(c, a) f = C(e, w1) h = C(f, w2)
    i = Add(h, e) [cat] j = Concat<axis=1>(a, e, i) y = C(j, wider)"""


def test_a_branch_that_a_sum_in_between_reads_is_left_to_the_concat(made: Make) -> None:
    assert quantized(made(BOTTLENECKS), "concat-reuse") == {Edge("cat", 1)}


def test_a_tensor_that_two_concats_read_is_quantized_for_both(made: Make) -> None:
    body = """a = C(x, w0) r = Resize<mode="nearest">(a, , up) t = Resize<mode="nearest">(x, , up)
        [one] c = Concat<axis=1>(t, r) d = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(c, wide)
        [two] e = Concat<axis=1>(d, a) y = C(e, wide)"""
    found = made(body)
    assert quantized(found, "concat-reuse") == {Edge("one", 1), Edge("two", 1)}
    assert found.source["r"] == "a"
    once = made(body.replace("Concat<axis=1>(d, a)", "Concat<axis=1>(d, d)"))
    assert Edge("one", 1) not in once.edges
