"""Rows in the order of a TopK are matched before they are compared."""

import numpy as np
import pytest
from detr_like import detr, images

from onnxq.judge.accuracy import Reference
from onnxq.judge.decisions import Decided
from onnxq.judge.judged import judged_tensors, ranked_outputs
from onnxq.judge.jury import Jury
from onnxq.judge.metrics import Sqnr
from onnxq.judge.parts import ranked_in, slices_of
from onnxq.judge.ranked import Found
from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.plan import Plan
from onnxq.run.over import loaded
from onnxq.run.runtime import Runtime
from onnxq.sensitivity.measure import _score
from onnxq.sensitivity.toggles import Toggle

K, CLASSES = 6, 3
# The best class of a place is ranked, as in YOLO10 and YOLO26.
ONE = """(float[B, 12, 4] b, float[B, 12, 3] s) => (float[B, 6, 6] y)
    <int64[1] k = {6}, int64[1] last = {2}, int64[3] four = {1, 1, 4}> {
    p = Sigmoid(s)
    q = Relu(b)
    best = ReduceMax<axes = [2], keepdims = 0>(p)
    class = ArgMax<axis = 2, keepdims = 0>(p)
    top, at = TopK<axis = -1>(best, k)
    at3 = Unsqueeze(at, last)
    at4 = Tile(at3, four)
    boxes = GatherElements<axis = 1>(q, at4)
    label = GatherElements<axis = 1>(class, at)
    number = Cast<to = 1>(label)
    l = Unsqueeze(number, last)
    t = Unsqueeze(top, last)
    y = Concat<axis = -1>(boxes, ORDER)
}"""
# Queries and classes are ranked together, as RT-DETR is deployed.
THREE = """(float[B, 12, 4] b, float[B, 12, 3] s) =>
    (int64[B, 6] labels, float[B, 6, 4] boxes, float[B, 6] scores)
    <int64[1] k = {6}, int64[1] last = {2}, int64[2] flat = {0, -1}, int64 n = {3},
     int64[3] four = {1, 1, 4}> {
    p = Sigmoid(s)
    f = Reshape(p, flat)
    scores, at = TopK<axis = 1>(f, k)
    labels = Mod(at, n)
    query = Div(at, n)
    q3 = Unsqueeze(query, last)
    q4 = Tile(q3, four)
    boxes = GatherElements<axis = 1>(b, q4)
}"""
# A matrix of scores a query, and the boxes before: TopK, then a decoder of a Gather alone.
RAW = """(float[1, 12, 7] x) => (float[1, 6, 7] y) <int64[1] k = {6}> {
    p = Sigmoid(x)
    best = ReduceMax<axes = [2], keepdims = 0>(p)
    top, at = TopK<axis = -1, sorted = 0>(best, k)
    i = Squeeze(at)
    y = Gather<axis = 1>(p, i)
}"""


def shaped(graph_of, body):
    return apply(graph_of(body), infer_shapes)


def ranked(graph_of, body):
    (found,) = ranked_in(slices_of(shaped(graph_of, body)))
    return found


def detections(seed=0, batch=1):
    rng = np.random.default_rng(seed)
    low = 100 * np.arange(K)[None, :, None] + rng.uniform(0, 9, (batch, K, 2))
    boxes = np.concatenate([low, low + 50], 2).astype(np.float32)
    scores = np.linspace(0.9, 0.1, K, dtype=np.float32)[None].repeat(batch, 0)
    labels = rng.integers(0, CLASSES, (batch, K))
    return boxes, scores, labels


def one(boxes, scores, labels):
    rows = (boxes, scores[..., None], labels[..., None])
    return {"y": np.concatenate(rows, 2).astype(np.float32)}


def three(boxes, scores, labels):
    return {"boxes": boxes, "scores": scores, "labels": labels.astype(np.int64)}


FORMS = [(ONE.replace("ORDER", "t, l"), one), (THREE, three)]


@pytest.mark.parametrize(("body", "form"), FORMS, ids=["one", "three"])
@pytest.mark.parametrize("batch", [1, 2])
def test_rows_in_another_order_are_the_same(graph_of, body, form, batch):
    found = detections(batch=batch)
    moved = [x[:, ::-1].copy() for x in found]
    ref, test, counts = ranked(graph_of, body).lined_up(form(*found), form(*moved))
    for name, x in ref.items():
        np.testing.assert_array_equal(x, test[name])
        assert not np.isnan(x.astype(float)).any()
    sure = int((found[1] > 0.25).sum())
    assert counts == Found(batch * K, batch * K, sure, sure)


@pytest.mark.parametrize(("body", "form"), FORMS, ids=["one", "three"])
def test_a_row_of_one_model_alone_costs_its_score_and_no_box(graph_of, body, form):
    boxes, scores, labels = detections()
    other = boxes.copy()
    other[0, 0] += 5000  # the best is elsewhere
    graph = shaped(graph_of, body)
    parts = slices_of(graph)
    group = ranked_in(parts)[0]
    ref, test, counts = group.lined_up(form(boxes, scores, labels), form(other, scores, labels))
    assert (counts.rows, counts.both) == (K + 1, K - 1)
    assert (counts.sure, counts.sure_both) == (6, 4)
    of = {p.name: [p.of(side[p.output]) for side in (ref, test)] for p in parts}
    assert set(of) == {"matched boxes", "matched scores"}
    a, b = of["matched boxes"]
    np.testing.assert_array_equal(a, b)
    assert np.isnan(a).all(-1).sum() == 2
    a, b = (x.ravel() for x in of["matched scores"])
    np.testing.assert_allclose(a - b, [0] * 5 + [0.9, -0.9], atol=1e-6)


def test_another_class_is_another_row(graph_of):
    boxes, scores, labels = detections()
    other = labels.copy()
    other[0, 0] = (labels[0, 0] + 1) % CLASSES
    _, _, counts = ranked(graph_of, THREE).lined_up(
        three(boxes, scores, labels), three(boxes, scores, other)
    )
    assert (counts.rows, counts.both) == (K + 1, K - 1)


def test_boxes_alike_are_told_apart_by_their_scores(graph_of):
    boxes, scores, labels = detections()
    boxes[:], labels[:] = boxes[:, :1], 1
    order = np.random.default_rng(1).permutation(K)
    moved = boxes[:, order], scores[:, order], labels[:, order]
    ref, test, _ = ranked(graph_of, THREE).lined_up(three(boxes, scores, labels), three(*moved))
    np.testing.assert_array_equal(ref["scores"], test["scores"])


@pytest.mark.parametrize("order", ["t, l", "l, t"])
def test_the_class_is_the_column_that_was_an_integer(graph_of, order):
    found = ranked(graph_of, ONE.replace("ORDER", order))
    columns = [c.start for c in (found.scores, found.labels)]
    assert columns == ([4, 5] if order == "t, l" else [5, 4])


def test_scores_of_all_classes_say_the_class_themselves(graph_of):
    found = ranked(graph_of, RAW)
    assert (found.scores.start, found.scores.stop, found.labels) == (4, 7, None)


def test_a_topk_of_something_else_ranks_nothing(graph_of):
    body = "(float[N, 8] x) => (float[N, 6] v) <int64[1] k = {6}> { v, i = TopK(x, k) }"
    assert not ranked_in(slices_of(shaped(graph_of, body)))


def test_a_model_is_compared_by_its_matched_rows(graph_of):
    graph = shaped(graph_of, FORMS[0][0])
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 500, (1, 12, 2))
    sample = {"b": np.concatenate([low, low + 80], 2).astype(np.float32),
              "s": rng.normal(0, 0.5, (1, 12, 3)).astype(np.float32)}  # fmt: skip
    near = sample["s"] + rng.normal(0, 0.01, (1, 12, 3)).astype(np.float32)
    model = to_proto(graph)
    run = loaded(model, None)
    outputs = [run({"b": sample["b"], "s": near})]
    held = Reference([sample], outputs, {"y": (1, K, 6)}, slices_of(graph))
    (found,) = held.running(model)
    assert found.headline.part == "matched scores"
    assert found["matched boxes"].sqnr_db == np.inf
    assert 25 < found["matched scores"].sqnr_db < 60
    assert any("rows of 'y' were matched by class and box" in line for line in found.lines())
    assert not any("infinite or NaN" in line for line in found.lines())


def test_detections_behind_a_topk_decide(graph_of):
    graph = shaped(graph_of, THREE)
    boxes, scores, labels = detections()
    ref = [three(boxes, scores, labels)]
    moved = [three(*(x[:, ::-1].copy() for x in (boxes, scores, labels)))]
    assert Decided.by(graph, ref).agreement(moved) == 1
    other = [three(boxes + 5000, scores, labels)]
    assert Decided.by(graph, ref).agreement(other) == 0


@pytest.mark.parametrize(("body", "judged"), [(FORMS[0][0], {"q", "best"}), (THREE, {"f"})])
def test_recoveries_are_judged_before_the_topk(graph_of, body, judged):
    names = set(judged_tensors(shaped(graph_of, body)))
    assert judged <= names
    assert not names & {"y", "boxes", "scores", "top", "t"}
    assert not ranked_outputs(shaped(graph_of, body))


@pytest.fixture
def decoder(graph_of):
    """(a decoder behind a selection of queries, its outputs of a sample, the same in another order,
    and with another row in place of a sure one)."""
    graph = apply(graph_of(*detr()), infer_shapes)
    ref = loaded(to_proto(graph), None)({"images": images(1)})
    moved = {name: x[:, ::-1].copy() for name, x in ref.items()}
    lost = {name: x.copy() for name, x in moved.items()}
    lost["boxes"][:, int(lost["scores"].max(2).argmax())] = 0.01
    return graph, ref, moved, lost


def test_recoveries_match_the_rows_of_a_decoder(decoder):
    graph, ref, moved, lost = decoder
    assert set(judged_tensors(graph)) == {"boxes", "scores"}
    jury = Jury.of(graph, [{}], [ref], Runtime())
    assert {noise for _, noise in jury.sums(0, moved).values()} == {0.0}
    noise = {name: noise for name, (_, noise) in jury.sums(0, lost).items()}
    assert noise["scores"] > 0.1


def test_a_ranking_matches_the_rows_of_a_decoder(decoder):
    graph, ref, moved, lost = decoder
    toggle = Toggle("a node", Plan("", "tensorrt", {}), tuple(ref))
    found = [_score(Given(ref), Sqnr(), toggle, {}, ranked_outputs(graph), Given(made), [0])[1][0]
             for made in (moved, lost)]  # fmt: skip
    assert {sums[0] for sums in found[0].values()} == {0.0}
    assert found[1]["scores"][0] > 0.1


class Given:
    """A runner, and the variant of a toggle, whose outputs are given."""

    def __init__(self, outputs):
        self.outputs = outputs

    def reference(self, i):
        return self.outputs

    def result(self):
        return lambda block: [self.outputs for _ in block]
