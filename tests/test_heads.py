"""Heads of detectors: which channels of their outputs are boxes, objectness and scores."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.judge.decisions import decisions_of
from onnxq.judge.parts import slices_of
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes

SIDES, ANCHORS, CLASSES = (8, 4), 2, 3
SPLIT = """
    int64[3] five = {2, 2, 4}, int64[1] at0 = {0}, int64[1] at2 = {2}, int64[1] at4 = {4},
    int64[1] last = {9223372036854775807}, int64[1] axis4 = {4}, int64[1] axis_1 = {-1},
    float two = {2.0}, float half = {0.5}, float stride = {8.0}, float anchor = {30.0}
"""


def parts(graph):
    """Name -> the slice, of every part."""
    found = slices_of(apply(graph, infer_shapes))
    return {p.name: (p.axis, p.start, p.stop) for p in found}


def yolov5(decode, columns=5 + CLASSES, more=""):
    """Levels of a map with anchors each: Sigmoid of all, decoded apart, joined again."""
    inputs = ", ".join(f"float[1, {ANCHORS * columns}, {s}, {s}] x{i}" for i, s in enumerate(SIDES))
    body, shapes = "", ""
    for i, side in enumerate(SIDES):
        shapes += f", int64[5] apart{i} = {{1, {ANCHORS}, {columns}, {side}, {side}}}"
        shapes += f", int64[3] flat{i} = {{1, {ANCHORS * side * side}, {columns}}}"
        body += f"""r{i} = Reshape(x{i}, apart{i}) t{i} = Transpose<perm = [0, 1, 3, 4, 2]>(r{i})
            {decode.replace("#", str(i))} l{i} = Reshape(joined{i}, flat{i}) """
    rows = sum(ANCHORS * side * side for side in SIDES)
    return (f"({inputs}) => (float[1, {rows}, {columns}] y) <{SPLIT}{shapes}> "
            f"{{ {body} y = Concat<axis = 1>(l0, l1) {more} }}")  # fmt: skip


BY_SPLIT = """s# = Sigmoid(t#) xy#, wh#, conf# = Split<axis = 4>(s#, five)
    c# = Mul(xy#, two) d# = Sub(c#, half) e# = Mul(d#, stride)
    f# = Mul(wh#, two) g# = Pow(f#, two) h# = Mul(g#, anchor)
    joined# = Concat<axis = 4>(e#, h#, conf#)"""
BY_SLICE = """s# = Sigmoid(t#)
    xy# = Slice(s#, at0, at2, axis4) c# = Mul(xy#, two) e# = Mul(c#, stride)
    wh# = Slice(s#, at2, at4, axis4) f# = Mul(wh#, two) g# = Mul(f#, f#) h# = Mul(g#, anchor)
    conf# = Slice(s#, at4, last, axis_1) joined# = Concat<axis = -1>(e#, h#, conf#)"""
YOLOV3 = """xy#, wh#, conf# = Split<axis = 4>(t#, five) c# = Sigmoid(xy#) d# = Add(c#, half)
    e# = Mul(d#, stride) g# = Exp(wh#) h# = Mul(g#, anchor) k# = Sigmoid(conf#)
    joined# = Concat<axis = 4>(e#, h#, k#)"""
DETECTOR = {"boxes": (2, 0, 4), "objectness": (2, 4, 5), "scores": (2, 5, 8)}


@pytest.mark.parametrize("decode", [BY_SPLIT, BY_SLICE, YOLOV3], ids=["split", "slice", "v3"])
def test_boxes_of_anchors_are_told_from_objectness_and_scores(graph_of, decode):
    assert parts(graph_of(yolov5(decode))) == DETECTOR


def test_the_channels_are_found_behind_a_transpose_of_the_whole(graph_of):
    text = yolov5(BY_SPLIT, more="z = Transpose<perm = [0, 2, 1]>(y)")
    rows = sum(ANCHORS * side * side for side in SIDES)
    text = text.replace(f"(float[1, {rows}, 8] y)", f"(float[1, 8, {rows}] z)")
    assert parts(graph_of(text)) == {name: (1, a, b) for name, (_, a, b) in DETECTOR.items()}


def test_the_parts_hold_what_they_are_named_by(graph_of, run_graph, rng):
    graph = graph_of(yolov5(BY_SPLIT))
    feeds = {f"x{i}": rng.normal(size=(1, 16, s, s)).astype(np.float32)
             for i, s in enumerate(SIDES)}  # fmt: skip
    (value,) = run_graph(graph, feeds)
    boxes, objectness, scores = (p.of(value) for p in slices_of(apply(graph, infer_shapes)))
    raw = feeds["x0"].reshape(1, ANCHORS, 8, 8, 8).transpose(0, 1, 3, 4, 2).reshape(-1, 8)
    np.testing.assert_allclose(objectness[0, : len(raw), 0], 1 / (1 + np.exp(-raw[:, 4])), 1e-5)
    np.testing.assert_allclose(scores[0, : len(raw)], 1 / (1 + np.exp(-raw[:, 5:])), 1e-5)
    assert boxes.max() > 1


def yolox(decoded):
    """Boxes, objectness and scores of maps of their own, joined level by level."""
    inputs, body, flat = [], "", ""
    for i, s in enumerate(SIDES):
        inputs += [f"float[1, {n}, {s}, {s}] {x}{i}" for x, n in (("b", 4), ("o", 1), ("c", 3))]
        flat += f"int64[3] flat{i} = {{1, 8, {s * s}}}, "
        body += f"""p{i} = Sigmoid(o{i}) q{i} = Sigmoid(c{i})
            m{i} = Concat<axis = 1>(b{i}, p{i}, q{i}) l{i} = Reshape(m{i}, flat{i}) """
    rows = sum(s * s for s in SIDES)
    end = "y = Transpose<perm = [0, 2, 1]>(all)"
    if decoded:
        end = """t = Transpose<perm = [0, 2, 1]>(all) xy, wh, rest = Split<axis = 2>(t, five)
            c = Add(xy, half) d = Mul(c, stride) e = Exp(wh) f = Mul(e, stride)
            y = Concat<axis = 2>(d, f, rest)"""
    return (f"({', '.join(inputs)}) => (float[1, {rows}, 8] y) <{flat}{SPLIT}> "
            f"{{ {body} all = Concat<axis = 2>(l0, l1) {end} }}")  # fmt: skip


@pytest.mark.parametrize("decoded", [False, True])
def test_objectness_of_a_map_of_its_own_is_told(graph_of, decoded):
    assert parts(graph_of(yolox(decoded))) == DETECTOR


LEVELS = """(float[1, 8, 8, 8] x0, float[1, 8, 4, 4] x1) => (float[1, 128, 4] y)
    <int64[3] flat0 = {1, 96, 4}, int64[3] flat1 = {1, 32, 4}, int64[3] f0 = {1, 128, 4},
     int64[3] f1 = {1, 32, 4}> { BODY y = Concat<axis = 1>(l0, l1) }"""


def test_levels_whose_channels_cannot_be_told_are_numbered(graph_of):
    # raw numbers, as SSD and RetinaNet join them: which are boxes is not in the graph
    text = LEVELS.replace("128, 4] y", "160, 4] y").replace(
        "BODY", """t0 = Transpose<perm = [0, 2, 3, 1]>(x0) l0 = Reshape(t0, f0)
        t1 = Transpose<perm = [0, 2, 3, 1]>(x1) l1 = Reshape(t1, f1)""")  # fmt: skip
    assert parts(graph_of(text)) == {"level 1": (1, 0, 128), "level 2": (1, 128, 160)}


def test_of_several_outputs_levels_and_parts_bear_the_name(graph_of):
    # SSD: scores and boxes are outputs of their own, each of two levels
    text = """(float[1, 8, 8, 8] x0, float[1, 8, 4, 4] x1) => (float[1, 160, 4] boxes,
        float[1, 160, 4] scores) <int64[3] f0 = {1, 128, 4}, int64[3] f1 = {1, 32, 4}> {
        t0 = Transpose<perm = [0, 2, 3, 1]>(x0) l0 = Reshape(t0, f0)
        t1 = Transpose<perm = [0, 2, 3, 1]>(x1) l1 = Reshape(t1, f1)
        boxes = Concat<axis = 1>(l0, l1) n0 = Neg(l0) n1 = Neg(l1)
        joined = Concat<axis = 1>(n0, n1) scores = Softmax<axis = 2>(joined) }"""
    assert parts(graph_of(text)) == {
        "boxes level 1": (1, 0, 128),
        "boxes level 2": (1, 128, 160),
        "scores": (None, 0, 0),
        "scores logits": (None, 0, 0),
    }


def test_outputs_of_each_level_or_task_go_by_their_own_names(graph_of):
    # RetinaNet as torchvision exports it without postprocessing; CenterPoint has a head a task
    text = """(float[1, 8, 8, 8] x) => (float[1, 4, 8, 8] box_0, float[1, 4, 8, 8] heatmap_0)
        <int64[2] four = {4, 4}> { box_0, c = Split<axis = 1>(x, four) heatmap_0 = Sigmoid(c) }"""
    assert list(parts(graph_of(text))) == ["box_0", "heatmap_0"]


DOUBTFUL = {  # what is behind two and two channels, or four, of a head
    "boxes by another rule": "s# = Sigmoid(t#) xy#, wh#, conf# = Split<axis = 4>(s#, five) "
    "c# = Mul(xy#, two) d# = Mul(wh#, two) joined# = Concat<axis = 4>(c#, d#, conf#)",
    "scores that are scaled": "xy#, wh#, conf# = Split<axis = 4>(t#, five) c# = Sigmoid(xy#) "
    "d# = Exp(wh#) e# = Sigmoid(conf#) f# = Mul(e#, two) joined# = Concat<axis = 4>(c#, d#, f#)",
    "raw numbers": "xy#, wh#, conf# = Split<axis = 4>(t#, five) c# = Sigmoid(xy#) "
    "d# = Exp(wh#) joined# = Concat<axis = 4>(c#, d#, conf#)",
}


@pytest.mark.parametrize("decode", DOUBTFUL)
def test_what_cannot_be_told_is_not_named(graph_of, decode):
    assert list(parts(graph_of(yolov5(DOUBTFUL[decode])))) == ["level 1", "level 2"]


def test_levels_that_differ_are_not_one_head(graph_of):
    text = yolov5(BY_SPLIT)
    first, second = text.split("l0 = Reshape(joined0, flat0)")
    second = second.replace("g1 = Pow(f1, two)", "g1 = Neg(f1)")
    assert list(parts(graph_of(f"{first}l0 = Reshape(joined0, flat0){second}"))) == [
        "level 1",
        "level 2",
    ]


def test_a_detection_has_the_product_of_objectness_and_score(graph_of):
    graph = apply(graph_of(yolox(decoded=False)), infer_shapes)
    (decision,) = [d for d in decisions_of(graph) if d.called == "detections"]
    value = np.zeros((1, 80, 8), np.float32)
    value[0, 0] = (5, 5, 2, 2, 0.5, 0, 0.9, 0)
    value[0, 1] = (50, 50, 2, 2, 0.1, 0, 0, 0.9)  # no object
    found = decision.made({"y": value})
    np.testing.assert_allclose(found, [[0, 1, 0.45, 4, 4, 6, 6]], rtol=1e-6)
