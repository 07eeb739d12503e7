"""What models decide, and how often two decide alike."""

import numpy as np
import pytest

from onnxq.errors import ModelError, PlanError
from onnxq.judge.decisions import Decided, decisions_of, detected, matching, overlap
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes

CLASSES = """(float[N, 8] x) => (float[N, 4] y) <float[8, 4] w> { y = MatMul(x, w) }"""
SOFTMAX = """(float[N, 4, 6] x) => (float[N, 4, 6] y) { y = Softmax<axis = 1>(x) }"""
MASK = """(float[N, 1, 6, 6] x) => (float[N, 1, 6, 6] y) { y = Sigmoid(x) }"""
COUNTS = """(float[N, 6] x) => (int64[N] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }"""
MAP = """(float[N, 3, 6, 6] x) => (float[N, 3, 6, 6] y) { y = Relu(x) }"""
DETECTOR = """(float[1, 4, N] b, float[1, 3, N] s) => (float[1, 7, N] y) {
    p = Sigmoid(s)
    q = Relu(b)
    y = Concat<axis = 1>(q, p)
}"""


def rows(*arrays):
    return [{"y": np.asarray(x, np.float32)} for x in arrays]


def agreement(graph, ref, test):
    return Decided.by(graph, ref).agreement(test)


def test_classes_are_alike_where_the_largest_value_is_at_the_same_place(graph_of):
    graph = graph_of(CLASSES, {"w": np.zeros((8, 4), np.float32)})
    ref = rows([[0, 3, 1, 0]], [[9, 0, 0, 0]], [[0, 0, 0, 1]])
    test = rows([[0, 9, 8, 0]], [[1, 0, 2, 0]], [[np.nan, 0, 0, 1]])
    assert agreement(graph, ref, ref) == 1
    assert agreement(graph, ref, test) == pytest.approx(1 / 3)


def test_behind_a_softmax_classes_lie_along_its_axis(graph_of):
    x = np.zeros((1, 4, 6), np.float32)
    x[0, 1] = 1
    y = x.copy()
    y[0, 2, :3] = 2  # another class at three of six places
    assert agreement(graph_of(SOFTMAX), rows(x), rows(y)) == 0.5


def test_behind_a_sigmoid_what_is_above_a_half_is_held_against_each_other(graph_of):
    x, y = np.zeros((2, 1, 1, 6, 6), np.float32)
    x[..., :4] = 0.9  # 24 places
    y[..., 2:] = 0.6  # 24 places, of which 12 are the same
    assert agreement(graph_of(MASK), rows(x), rows(y)) == 0.5
    assert agreement(graph_of(MASK), rows(x), rows(0 * x)) == 0


def test_integers_are_alike_where_they_are_equal(graph_of):
    ref, test = [{"y": np.array([1, 2, 3, 4])}], [{"y": np.array([1, 2, 0, 4])}]
    assert agreement(graph_of(COUNTS), ref, test) == 0.75


def test_what_decides_nothing_is_refused(graph_of):
    with pytest.raises(PlanError, match="no output says a class"):
        decisions_of(graph_of(MAP))


def test_samples_that_show_nothing_are_an_error(graph_of):
    empty = rows(np.zeros((1, 1, 6, 6)))
    with pytest.raises(ModelError, match="no sample shows anything to decide"):
        agreement(graph_of(MASK), empty, empty)


def image(*boxes):
    """An output of the detector: of each box center, size, class and score."""
    y = np.zeros((1, 7, 5), np.float32)
    y[0, :4, :] = np.array([[500, 500, 1, 1]]).T  # smaller than they are far: no corners
    for k, (box, label, score) in enumerate(boxes):
        y[0, :4, k], y[0, 4 + label, k] = box, score
    return y


def test_detections_are_alike_by_class_and_overlap(graph_of):
    graph = apply(graph_of(DETECTOR), infer_shapes)
    a, b = ([50, 50, 20, 20], 0, 0.9), ([90, 50, 20, 20], 1, 0.8)
    ref = rows(image(a, b))
    moved = ([52, 50, 20, 20], 0, 0.7)
    assert agreement(graph, ref, rows(image(moved, b))) == 1
    assert agreement(graph, ref, rows(image(a))) == pytest.approx(2 / 3)  # one is lost
    assert agreement(graph, ref, rows(image(a, (b[0], 2, 0.8)))) == 0.5  # another class
    far = ([65, 50, 20, 20], 0, 0.9)  # an IoU of 1/7
    assert agreement(graph, ref, rows(image(far, b))) == 0.5
    assert agreement(graph, ref, rows(image(a, b, ([20, 20, 9, 9], 2, 0.5)))) == 0.8  # one more


def test_of_overlapping_boxes_of_a_class_the_best_is_left():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [40, 0, 50, 10.0]])
    scores = np.array([[0.6, 0], [0.9, 0], [0, 0.8], [0.2, 0.1]])
    found = detected(boxes, scores)
    assert found[:, 1].tolist() == [0, 1]
    assert found[:, 2].tolist() == [0.9, 0.8]


def test_a_detection_is_in_one_pair_at_most():
    one = np.array([[0, 0, 0.9, 0, 0, 10, 10.0]])
    assert matching(np.concatenate([one, one]), one) == (2, 3)
    assert matching(np.zeros((0, 7)), np.zeros((0, 7))) == (0, 0)
    assert overlap(np.array([0, 0, 10, 10.0]), np.array([[5, 0, 15, 10.0]])) == pytest.approx(1 / 3)
