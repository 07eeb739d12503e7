"""A model that quantization ruins: the summary says so, and what to run next."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array
from onnxq_cli.next_step import following

from onnxq.judge.accuracy import Reference, agreement, agreements
from onnxq.judge.grade import judged
from onnxq.judge.parts import Part
from onnxq.model.graph import to_proto
from onnxq.pipeline.config import Config


@pytest.fixture
def ruined(folder, rng):
    """m.onnx and c.npy: every input has one channel a hundred times as large, of no weight."""
    body = """<ir_version: 8, opset_import: ["": 17]> g (float[N, 32] x) => (float[N, 24] y)
        { [fc] y = MatMul(x, w) }"""
    weight, x = rng.standard_normal((32, 24)), rng.standard_normal((40, 32))
    x[:, 0] *= 300
    weight[0] = 0
    model = onnx.parser.parse_model(body)
    model.graph.initializer.append(from_array(weight.astype(np.float32), "w"))
    onnx.save(model, "m.onnx")
    np.save("c d.npy", x.astype(np.float32))


ARGS = ("quantize", "m.onnx", "--calib", "c d.npy", "--method", "max")


def test_a_poor_result_is_said_with_a_command_that_runs(ruined, done):
    ran = done(*ARGS, "--json")
    verdict = json.loads(ran.out)["verdict"]
    assert (verdict["grade"], verdict["why"].startswith("y has ")) == ("poor", True)
    assert "FP16 alone may serve" in verdict["why"]
    words = shlex.split(verdict["next"])
    assert words[:4] == ["onnxq", "sensitivity", "m.onnx", "--calib"]
    assert words[4] == "c d.npy"
    assert "fc" in done(*words[1:]).out
    *_, said, following = done(*ARGS).out.splitlines()
    assert said.startswith("poor: y has ")
    assert following == f"next: {verdict['next']}"


def test_a_good_result_ends_in_what_builds_it_and_polygraphy_waits_to_be_asked(done, fixtures):
    model, data = (fixtures / f"classifier/{name}" for name in ("classifier.onnx", "calib.npy"))
    ran = done("quantize", model, "--calib", data, "-o", "q.onnx")
    manifest = json.loads(Path("q.onnx.manifest.json").read_text())
    assert not manifest["notes"]
    assert manifest["verdict"]["grade"] == "good"
    assert ran.out.splitlines()[-1] == "next: onnxq build q.onnx"
    assert "polygraphy" not in ran.out
    assert len(manifest["repeat"]) == 3


def verdict_of(test, name="y"):
    ref = np.ones(8)
    parts = {"good": agreement(ref, ref), name: agreement(ref, test)}
    return judged(agreements(parts, {}, {}, 1), 1.0, False)


def off(decibels):
    """Eight values that have this SQNR against ones."""
    return np.full(8, 1 + 10 ** (-decibels / 20))


@pytest.mark.parametrize(
    ("decibels", "name", "grade"),
    [
        (21.1, "y", "good"), (20.9, "y", "doubtful"), (8.1, "y", "doubtful"), (7.9, "y", "poor"),
        (15.1, "scores", "good"), (14.9, "scores", "doubtful"), (7.9, "scores", "poor"),
        (15.1, "y objectness", "good"),
        (math.nan, "y", "poor"), (math.inf, "y", "good"),
    ],
)  # fmt: skip
def test_the_worst_part_is_the_verdict(decibels, name, grade):
    assert verdict_of(off(decibels), name).grade == grade


def test_a_model_that_is_poor_in_a_single_sample_is_doubtful():
    ref = np.ones(8)
    found = agreement(ref, off(40)) + agreement(ref / 100, off(4) / 100)
    verdict = judged(agreements({"y": found}, {}, {}, 2), 1.0, False)
    assert verdict.grade == "doubtful"
    assert "single samples are poor" in verdict.why
    assert found.sqnr_db + 3 <= verdict.goal_db <= found.sqnr_db + 4
    assert judged(agreements({"scores": found}, {}, {}, 2), 1.0, False).grade == "good"


@pytest.mark.parametrize(
    ("decibels", "places", "tops", "grade"),
    [
        (11, 400, 398, "good"),  # of so many classes most are noise
        (11, 345, 339, "good"),  # a reader of text
        (11, 8, 8, "doubtful"),  # too few to know
        (11, 400, 380, "doubtful"),
        (25, 400, 360, "doubtful"),  # nine in ten are not good, however near the others are
        (25, 8, 7, "good"),
        (4, 400, 400, "poor"),
    ],
)
def test_where_classes_compete_at_many_places_the_top_one_counts(decibels, places, tops, grade):
    found = replace(agreement(np.ones(8), off(decibels)), places=places, tops=tops)
    verdict = judged(agreements({"y": found}, {}, {}, 1), 1.0, False)
    assert verdict.grade == grade
    assert ("top class the same" in verdict.why) == (places > 8)


def test_the_top_class_is_counted_at_every_place_of_the_classes_alone(graph_of):
    p, q = (np.eye(3, dtype=np.float32)[rows][None] for rows in ([0, 1, 2, 1], [0, 1, 1, 1]))
    part = Part("y", "y", called="y logits", classes=-1)
    held = Reference([{"x": q}], [{"y": p}], {}, [part, Part("y", "y")])
    graph = graph_of("(float[1, 4, 3] x) => (float[1, 4, 3] y) { y = Identity(x) }")
    (found,) = held.running(lambda: to_proto(graph))
    assert (found.parts["y logits"].places, found.parts["y logits"].tops) == (4, 3)
    assert found.parts["y"].places == 0
    assert found.headline.as_dict()["tops"] == 3


def test_where_little_is_quantized_fp16_is_named():
    ref = np.ones(8)
    found = agreements({"y": agreement(ref, off(40))}, {}, {}, 1)
    assert "30% of the weights" in str(judged(found, 0.3, True))
    assert "FP16" not in str(judged(found, 0.3, False))
    assert judged(agreements({}, {}, {}, 0), 1.0, True) is None


def next_of(decibels, **options):
    config, verdict = Config(**options), verdict_of(off(decibels))
    return following(Path("m.onnx"), Path("q.onnx"), ["c.npy"], config, verdict)


def test_what_comes_next_is_what_was_not_done_yet():
    assert next_of(40) == "onnxq build q.onnx"
    assert next_of(15) == "onnxq tune m.onnx --calib c.npy --min-sqnr 21"
    assert next_of(15, recover="all") == next_of(15)


def test_options_of_the_run_go_with_the_command():
    assert "--config q.onnx.manifest.json" in next_of(0, method="max")
    assert "--config" not in next_of(0)
