"""What a notebook shows: short reprs, and HTML that is well-formed whatever names are in it."""

import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from onnxq import api
from onnxq.calib.histogram import EMPTY, histogram_of
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.cost.counted import Share
from onnxq.judge.accuracy import Agreement, agreement
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.search.result import Result, Trial
from onnxq.sensitivity.ranking import Ranking, Row, Score

EVIL = "<script>alert('x')</script>&\"'"
MODEL = "0123456789abcdef" * 4


class Checker(HTMLParser):
    """Fails for a tag that is not closed; collects the text of the cells of the tables."""

    def __init__(self):
        super().__init__()
        self.open, self.rows = [], []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def rows_of(value):
    html = value._repr_html_()
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert "<script" not in html
    return checker.rows


@pytest.fixture(scope="module")
def classifier(pytestconfig):
    return pytestconfig.rootpath / "fixtures" / "classifier"


@pytest.fixture(scope="module")
def quantized(classifier):
    config = Config(recover="none", samples=8)
    return api.quantize(classifier / "classifier.onnx", [str(classifier / "calib.npy")], config)


@pytest.fixture
def stats(rng):
    names = [EVIL, *(f"t{i:02}" for i in range(20))]
    return Stats(MODEL, {name: histogram_of(rng.normal(size=100)) for name in names}, 3)


@pytest.fixture
def ranking():
    row = Row(1, False, EVIL, "Conv", (EVIL,), Score(30.0, 0.6, 0.1), {}, 0.6, {}, 0.0, 1, 2, 8)
    return Ranking(MODEL, "one-on", "node", "sqnr", True, "outputs", 8, (row,))


def result_of(chosen):
    shares = {"int8": Share(1, 1), "float": Share(0, 0)}
    trial = Trial({}, (EVIL,), 0.3, 0.3, shares, 0.1, 20.0, 0.5, {}, chosen, True)
    return Result(MODEL, "sqnr", True, np.inf, f"cost {EVIL}", "ops", ("int8",), 8, (trial,),
                  trial if chosen else None, trial, None)  # fmt: skip


def test_a_model_shows_its_inputs_outputs_and_op_types(classifier):
    source = api.prepare(classifier / "classifier.onnx")
    assert repr(source).startswith(f"Source('{source.path}', {len(source.graph.nodes)} nodes, ")
    rows = rows_of(source)
    assert ["input", "image", "batch × 1 × 16 × 16", "float32"] in rows
    assert ["output", "logits", "batch × 10", "float32"] in rows
    convs = sum(node.op == "Conv" for node in source.graph.nodes)
    assert ["Conv", str(convs)] in rows


def test_a_plan_shows_what_is_quantized_by_which_rule_and_why_the_rest_is_float(quantized):
    plan = quantized.plan.without(quantized.plan.nodes[0], reason=EVIL)
    assert len(repr(plan)) < 200
    assert f"{len(plan.nodes)} nodes quantized ({len(plan.nodes)} INT8)" in repr(plan)
    rows = rows_of(plan)
    assert [EVIL, "1"] in rows
    assert sum(int(row[2]) for row in rows[1:] if row[0] == "INT8") == len(plan.nodes)


def test_a_plan_of_nothing_has_a_repr():
    plan = Plan(MODEL, "tensorrt", {})
    assert "0 nodes quantized (none), 0 float" in repr(plan)
    assert rows_of(plan) == [["precision", "rule", "nodes"]]


def test_statistics_show_the_widest_tensors_and_how_many_more_there_are(stats):
    assert repr(stats) == f"Stats(21 tensors, 3 samples, model {MODEL[:12]})"
    head, *rows, last = rows_of(stats)
    widest = max(stats.histograms, key=lambda name: stats[name].amax)
    assert head[0] == "tensor"
    assert rows[0][0] == widest
    assert len(rows) == 12
    assert last == ["and 9 more"]
    assert rows_of(replace(stats, histograms={EVIL: EMPTY}))[1][:2] == [EVIL, "0"]


def test_ranges_show_what_clips_most_first(quantized):
    ranges = quantized.ranges
    assert repr(ranges).startswith(f"Ranges({len(ranges.tensors)} tensors by Mse(), up to ")
    _, first, second, *_ = rows_of(ranges)
    assert float(first[2]) >= float(second[2])
    assert "no method" in repr(Ranges(MODEL, {}))


def test_agreement_shows_its_figures(rng):
    x = rng.normal(size=100)
    found = agreement(x, x + 0.1)
    assert repr(found) == (f"Agreement(SQNR {found.sqnr_db:.2f} dB, cosine {found.cosine:.5f}, "
                           "max |diff| 0.1, 100 values)")  # fmt: skip
    assert rows_of(found)[0] == ["output", "SQNR, dB", "cosine", "max |diff|", "mean |diff|"]
    assert "SQNR inf dB" in repr(Agreement())


def test_a_ranking_shows_the_worst(ranking):
    assert repr(ranking) == f"Ranking(1 nodes one-on by sqnr, the worst '{EVIL}' with 60 %)"
    assert rows_of(ranking)[1] == ["1", EVIL, "Conv", "30", "60.0"]
    assert repr(replace(ranking, rows=())) == "Ranking(0 nodes one-on by sqnr)"


def test_a_search_shows_its_plans():
    assert "cost 0.300, sqnr 20" in repr(result_of(chosen=True))
    assert repr(result_of(chosen=False)).endswith(": none)")
    assert rows_of(result_of(chosen=True))[1] == ["chosen", "0.300", "1", "20 ± 0.5", "yes"]


def test_a_quantized_model_shows_outputs_and_plan(quantized):
    decibels = quantized.agreement["logits"].sqnr_db
    count = len(quantized.plan.nodes)
    assert f"{count} nodes quantized" in repr(quantized)
    assert f"'logits' {decibels:.2f} dB" in repr(quantized)
    rows = rows_of(quantized)
    assert ["logits", f"{decibels:.2f}"] in [row[:2] for row in rows]
    assert any(row[0] == "INT8" for row in rows)


def test_a_histogram_has_a_short_repr():
    assert repr(histogram_of([1.0, -2.5])) == "Histogram(2 values from -2.5 to 1)"
    assert repr(EMPTY) == "Histogram(0 values from inf to -inf)"


def test_an_op_name_of_a_model_is_escaped(classifier, tmp_path):
    shutil.copy(classifier / "classifier.onnx", tmp_path / "a&b.onnx")
    source = api.open_model(tmp_path / "a&b.onnx")
    source.graph.inputs[0].name = EVIL
    source.graph.nodes[0].op = EVIL
    assert "a&amp;b.onnx" in source._repr_html_()
    assert [EVIL, "1"] in rows_of(source)
