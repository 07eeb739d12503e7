"""A change is judged at every output and at the parts of a joined one, beyond the scatter."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.judge import verdict as judge
from onnxq.judge.judged import judged_tensors, score_parts
from onnxq.judge.jury import Jury
from onnxq.judge.verdict import gathered, reached, sums
from onnxq.model.graph import to_proto
from onnxq.passes.prepare import prepare
from onnxq.run import over
from onnxq.run.runtime import Runtime


def values(rng, noise, samples=8):
    ref = rng.standard_normal((samples, 100))
    return ref, ref + noise * rng.standard_normal(ref.shape)


def named(rows):
    return [{"y": row} for row in rows]


def errors(ref, test):
    return gathered(sums(r, t) for r, t in zip(ref, test, strict=True))


def sqnr(ref, test):
    return judge.sqnr(errors(ref, test))


def worst_fall(ref, before, after, scores=()):
    return judge.worst_fall(errors(ref, before), errors(ref, after), scores)


def test_a_concat_is_judged_by_its_parts_and_integers_not_at_all(graph_of):
    graph = prepare(
        graph_of(
            "(float[1,4] x) => (float[1,9] y, int64[1] k, float[1,4] z) <float[1,1] c = {1}> {"
            "a = Exp(x) b = Relu(x) y = Concat<axis = 1>(a, b, c) k = ArgMax(x) z = Neg(x)}"
        )
    )
    assert judged_tensors(graph) == ["a", "b", "z"]


def test_sqnr_sums_over_all_samples():
    ref = named([np.array([1.0, 0.0]), np.array([3.0, 0.0])])
    test = named([np.array([1.0, 1.0]), np.array([3.0, 0.0])])
    assert sqnr(ref, test) == {"y": 10.0}  # 10 log10((1 + 9) / 1)
    assert sqnr(ref, ref) == {"y": 200.0}


def test_twice_the_noise_is_a_fall(rng):
    ref, test = values(rng, 0.1)
    worse = ref + 2 * (test - ref)
    assert worst_fall(named(ref), named(test), named(worse)) == "y"
    assert worst_fall(named(ref), named(worse), named(test)) is None


def test_nothing_gained_is_not_worth_a_change(rng):
    ref, test = values(rng, 0.1)
    assert worst_fall(named(ref), named(test), named(test)) == "y"


def test_a_small_fall_is_outweighed_by_a_gain_and_a_larger_one_is_not(rng):
    ref, test = values(rng, 0.1)
    two = [[{"y": r, "z": r} for r in rows] for rows in (ref, test)]

    def after(share):
        pairs = zip(ref, test, strict=True)
        return [{"y": r + share * (t - r), "z": r + 0.7 * (t - r)} for r, t in pairs]

    assert worst_fall(*two, after(1.005)) is None  # 0.04 dB
    assert worst_fall(*two, after(1.2)) == "y"  # 1.6 dB


def test_one_sample_that_ruins_the_whole_is_a_fall(rng):
    ref, test = values(rng, 0.1)
    share = np.array([0.8] * 7 + [3.0])[:, None]  # seven gain 2 dB, the last loses 10
    assert worst_fall(named(ref), named(test), named(ref + share * (test - ref))) == "y"


def test_samples_whose_reference_is_all_zero_say_nothing(rng):
    ref, test = values(rng, 0.1)
    ref[0] = 0
    assert worst_fall(named(ref), named(test), named(ref + 0.5 * (test - ref))) is None
    assert worst_fall(named(0 * ref), named(test), named(0.5 * test)) is None


def test_what_a_tensor_reaches(graph_of):
    graph = graph_of(
        "(float[1,4] x) => (float[1,4] a, float[1,4] b, float[1,4] c) "
        "{t = Exp(x) u = Relu(t) a = Neg(u) b = Neg(t) c = Neg(x)}"
    )
    outputs = ["a", "b", "c"]
    assert reached(graph, ["t", "u", "c"], outputs) == {"t": {"a", "b"}, "u": {"a"}, "c": {"c"}}


def test_scores_beside_boxes_must_gain_beyond_their_scatter(rng):
    ref, test = values(rng, 0.1)
    share = np.array([0.4] + [1.0, 1.05] * 3 + [1.0])[:, None]  # one gains 8 dB, the others nothing
    lucky, all_of_them = (ref + s * (test - ref) for s in (share, 0.7))
    assert worst_fall(named(ref), named(test), named(lucky)) is None
    assert worst_fall(named(ref), named(test), named(lucky), {"y"}) == "y"
    assert worst_fall(named(ref), named(test), named(all_of_them), {"y"}) is None


DETECTOR = """(float[1, 8, 4] x) => (float[1, 12, 4] y, float[1, 8, 4] z) {
  boxes = Abs(x)
  some = Slice(x, zero, four, one)
  probable = Sigmoid(some)
  y = Concat <axis = 1> (boxes, probable)
  z = Sigmoid(x)
}"""


def test_scores_are_sigmoids_beside_other_parts_and_a_lone_sigmoid_is_none(graph_of):
    index = {"zero": np.array([0]), "four": np.array([4]), "one": np.array([1])}
    graph = prepare(graph_of(DETECTOR, index))
    assert score_parts(graph) == {"probable"}


def test_places_that_are_infinite_alike_say_nothing(rng):
    ref, test = values(rng, 0.1)
    masked = [
        np.where(np.arange(100) % 4 == 0, -np.inf, x) for x in (ref, test, ref + 2 * (test - ref))
    ]
    kept = np.arange(100) % 4 != 0
    assert sqnr(*map(named, masked[:2])) == sqnr(named(ref[:, kept]), named(test[:, kept]))
    assert worst_fall(*map(named, masked)) == "y"
    assert worst_fall(*map(named, (masked[0], masked[2], masked[1]))) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_the_worst_that_can_be(rng, bad):
    ref, test = values(rng, 0.1)
    broken = test.copy()
    broken[3, 5] = bad
    assert sqnr(named(ref), named(broken)) == {"y": -200.0}
    assert worst_fall(named(ref), named(test), named(broken)) == "y"
    assert worst_fall(named(ref), named(broken), named(broken)) == "y"
    assert worst_fall(named(ref), named(broken), named(test)) is None


def test_nothing_is_kept_without_evidence(rng):
    ref, test = values(rng, 0.1)
    better, shorter = ref + (test - ref) / 2, test[:, :99]
    nothing = named(np.full_like(ref, -np.inf))
    assert worst_fall(nothing, nothing, nothing) == "y"
    assert worst_fall(named(ref), named(shorter), named(better)) == "y"
    assert worst_fall(named(ref), named(test), named(shorter)) == "y"
    assert sqnr(named(ref), named(shorter)) == {}


def test_a_tensor_of_another_length_leaves_the_verdict_to_the_others(rng):
    ref, test = values(rng, 0.1)
    better = ref + (test - ref) / 2
    refs, before, after = (
        [{"y": y, "z": z} for y, z in zip(a, b, strict=True)]
        for a, b in ((ref, ref), (test[:, :99], test), (test, better))
    )
    assert worst_fall(refs, before, after) is None
    assert worst_fall(refs, after, before) == "z"


def test_what_an_nms_reads_is_judged_in_its_place(graph_of):
    graph = prepare(
        graph_of(
            "(float[1,6,4] b, float[1,2,6] c) => (float[K,4] y, int64[K,3] k) <int64 z = {0}> {"
            "boxes = Relu(b) scores = Sigmoid(c) k = NonMaxSuppression(boxes, scores)"
            "i = Gather<axis = 1>(k, z) f = Squeeze(boxes, axes) y = Gather(f, i)"
            "axes = Constant<value = int64[1] {0}>() }"
        )
    )
    assert judged_tensors(graph) == ["f", "boxes", "scores"]


def test_probabilities_of_classes_are_judged_at_their_logits(graph_of, dataset):
    graph = prepare(graph_of("(float[N,4] x) => (float[N,4] y) { y = Softmax(x) }"))
    moved = prepare(graph_of("(float[N,4] x) => (float[N,4] y) <float[4] d = {0, 3, 0, 0}> {"
                             "m = Add(x, d) y = Softmax(m) }"))  # fmt: skip
    x = np.float32([[20, 0, -20, 0], [0, 0, 0, 20]])  # which leaves the largest where it is
    reference = over.each(to_proto(graph), dataset(x), lambda _, v: v)
    jury = Jury.of(graph, dataset(x), reference, Runtime())
    assert np.abs(reference[0]["y"][0, 0] - 1) < 1e-6
    assert jury.errors(graph)["y"][:, 1] == pytest.approx(0)
    wanted = np.array([0, 3, 0, 0]) - 0.75
    assert jury.errors(moved)["y"][:, 1] == pytest.approx((wanted**2).sum(), rel=1e-3)
