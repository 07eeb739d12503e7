"""Outputs are judged by their parts, which have names that people understand."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from onnxq.judge.accuracy import Agreement, Reference, agreement
from onnxq.judge.parts import classifies, slices_of
from onnxq.model import graph as graphs
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.trt.compare import Thresholds, compare

DETECTOR = """
    boxes = Mul(x, k) cls = Slice(x, zero, three, one) s = Sigmoid(cls)
    y = Concat<axis = 1>(boxes, s)
"""
CONSTANTS = "<float k = {100.0}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] three = {3}>"


def named(graph):
    return [part.name for part in slices_of(apply(graph, infer_shapes))]


def test_four_channels_beside_what_a_sigmoid_wrote_are_boxes_and_scores(graph_of):
    graph = graph_of(f"(float[1, 4, 9] x) => (float[1, 7, 9] y) {CONSTANTS} {{ {DETECTOR} }}")
    assert named(graph) == ["boxes", "scores"]
    x = np.arange(63).reshape(1, 7, 9)
    boxes, scores = (part.of(x) for part in slices_of(apply(graph, infer_shapes)))
    assert (boxes.shape, scores.shape) == ((1, 4, 9), (1, 3, 9))


def test_of_several_outputs_the_parts_bear_the_name(graph_of):
    graph = graph_of(f"""(float[1, 4, 9] x) => (float[1, 7, 9] y, float[1, 4, 9] z)
        {CONSTANTS} {{ {DETECTOR} z = Neg(x) }}""")
    assert named(graph) == ["y boxes", "y scores", "z"]


def test_a_concat_within_a_concat_is_taken_apart(graph_of):
    graph = graph_of(f"""(float[1, 4, 9] x) => (float[1, 9, 9] z) {CONSTANTS} {{
        {DETECTOR} five = Slice(x, zero, one, one) n = Neg(five) m = Concat<axis = 1>(n, five)
        z = Concat<axis = 1>(y, m) }}""")
    assert named(graph) == ["boxes", "scores", "z[:, 7:8]", "z[:, 8:9]"]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("a = Neg(x) y = Concat<axis = 1>(x, a)", ["y"]),  # an input as it is
        ("a = Neg(x) b = Abs(x) y = Concat<axis = 1>(a, b)", ["y[:, 0:4]", "y[:, 4:8]"]),
        ("a = Sigmoid(x) b = Abs(x) y = Concat<axis = 2>(a, b)",
         ["y[:, :, 0:9]", "y[:, :, 9:18]"]),
    ],
)  # fmt: skip
def test_what_is_no_detector_is_named_by_its_place(graph_of, body, names):
    graph = graph_of(f"(float[1, 4, 9] x) => (float[1, N, M] y) {{ {body} }}")
    assert named(graph) == names


@pytest.mark.parametrize(
    ("body", "shape", "said"),
    [
        ("y = Gemm(x, w)", "N, 3", True),
        ("a = Gemm(x, w) y = Softmax(a)", "N, 3", True),
        ("a = Gemm(x, w) y = LpNormalization(a)", "N, 3", False),
        ("y = Relu(x)", "N, 3, 3", False),
    ],
)
def test_rows_of_classes_are_told_from_embeddings_and_maps(graph_of, body, shape, said):
    graph = graph_of(f"(float[{shape}] x) => (float[{shape}] y) <float[3, 3] w = "
                     f"{{1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0}}> {{ {body} }}")  # fmt: skip
    assert classifies(graph) == said


def saved(path, step):
    """A detector whose boxes and scores are off by a step before the Sigmoid."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 4, 9] x) => (float[1, 7, 9] y) <float step = {{{step}}}, {CONSTANTS[1:]} {{
            moved = Add(x, step) {DETECTOR.replace("x,", "moved,")} }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


class Samples(list):
    """A dataset of arrays."""

    def sample(self, i):
        return self[i]


@pytest.fixture
def detectors(tmp_path, rng):
    models = [saved(tmp_path / name, step) for name, step in (("a.onnx", 0.0), ("b.onnx", 0.5))]
    return models, Samples({"x": rng.normal(size=(1, 4, 9)).astype(np.float32)} for _ in range(5))


def test_the_headline_is_the_worst_part_with_its_spread(detectors):
    (a, b), samples = detectors
    parts = slices_of(apply(graphs.load(a), infer_shapes))
    found = list(Reference.of(a, samples, parts=parts).running(b))[-1]
    assert list(found.parts) == ["boxes", "scores"]
    worst = min(found.parts, key=lambda name: found[name].sqnr_db)
    one = found.headline
    assert (one.part, one.sqnr_db) == (worst, found[worst].sqnr_db)
    assert one.least_db == min(found[worst].each) < one.sqnr_db
    assert one.spread_db == pytest.approx(np.std(found[worst].each, ddof=1))
    assert found["y"].noise == pytest.approx(sum(found[n].noise for n in found.parts))


def test_compare_judges_by_parts_and_says_no_top_class_of_a_detector(detectors):
    (a, b), samples = detectors
    found = compare(a, b, samples, Thresholds())
    document = found.as_dict()
    assert list(document["parts"]) == ["boxes", "scores"]
    assert document["headline"]["sqnr_db"] == min(
        part["sqnr_db"] for part in document["parts"].values()
    )
    assert "top1_agreement" not in document["outputs"]["y"]
    between = sorted(t.sums.sqnr_db for t in found.parts.values())
    (failure,) = compare(a, b, samples, Thresholds(min_sqnr=sum(between) / 2)).failures
    assert failure.startswith(f"'{document['headline']['part']}': SQNR")


def test_samples_of_nothing_but_zeros_do_not_count_towards_the_spread():
    one, zero = np.ones(4), np.zeros(4)
    found = agreement(one, 0.9 * one) + agreement(zero, one) + agreement(one, 0.99 * one)
    assert found.least_db == pytest.approx(20)
    assert found.mean_db == pytest.approx(30)
    assert found.spread_db == pytest.approx(math.sqrt(200))
    assert all(map(math.isnan, (Agreement().mean_db, Agreement().spread_db, Agreement().least_db)))
    assert math.isnan(agreement(one, 0.9 * one).spread_db)


def test_a_softmax_is_judged_at_its_logits(graph_of, rng):
    graph = graph_of("(float[N, 5] x) => (float[N, 5] p) { p = Softmax<axis = 1>(x) }")
    whole, logits = slices_of(apply(graph, infer_shapes))
    assert (whole.name, logits.name) == ("p", "p logits")
    x = rng.normal(size=(3, 5)) * 10
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    # float64 of probabilities down to 1e-20
    np.testing.assert_allclose(logits.of(p), x - x.mean(1, keepdims=True), atol=1e-9)
    assert np.isfinite(logits.of(np.array([[1, 0, 0, 0, 0]], np.float32))).all()


def test_the_logits_stand_in_the_headline_in_place_of_the_probabilities(graph_of):
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[1, 3] x) => (float[1, 3] p)
        <float[3] step = {STEP}> { a = Add(x, step) p = Softmax<axis = 1>(a) }"""
    models = [
        onnx.parser.parse_model(text.replace("STEP", step))
        for step in ("0.0, 0.0, 0.0", "1.0, 0.0, 0.0")
    ]
    samples = [{"x": np.array([[-9, 0, 9]], np.float32)}]
    graph = apply(graphs.from_proto(models[0]), infer_shapes)
    found = list(Reference.of(models[0], samples, parts=slices_of(graph)).running(models[1]))[-1]
    assert found["p"].sqnr_db > 60
    assert found.headline.part == "p logits"
    assert found.headline.sqnr_db < 30
