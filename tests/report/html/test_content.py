"""What the page shows, as a value."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxq.calib.histogram import histogram_of
from onnxq.calib.methods import parse_method
from onnxq.calib.ranges import read_ranges
from onnxq.numerics import scale_of
from onnxq.report.html.content import content
from onnxq.report.html.headline import Verdict, verdict_of
from onnxq.report.html.numbers import brief
from onnxq.report.html.page import render
from onnxq.report.html.tensors import BARS, METHODS, curve
from onnxq.sensitivity.ranking import Score
from onnxq.spec import QuantSpec

INT8 = QuantSpec("int8")


def node(shown, part):
    return next(n for n in shown["nodes"] if part in n["name"])


def test_qdq_is_not_drawn_and_every_other_node_is(centerpoint, shown):
    ops = {n["op"] for n in shown["nodes"]}
    assert not ops & {"QuantizeLinear", "DequantizeLinear", "Constant"}
    drawn = [n.name for n in centerpoint.graph.nodes if "Linear" not in n.op]
    assert [n["name"] for n in shown["nodes"]] == drawn


def test_edges_pass_through_qdq(shown):
    place = {n["name"]: i for i, n in enumerate(shown["nodes"])}
    relu = place["/pts_backbone/blocks.0/blocks.0.2/Relu"]
    conv = place["/pts_backbone/blocks.0/blocks.0.3/Conv"]
    assert [relu, conv, "INT8"] in shown["edges"]


def test_edges_have_the_type_in_which_they_are_read_and_nodes_the_shape_they_write(shown):
    place = {n["name"]: i for i, n in enumerate(shown["nodes"])}
    conv = place["/pts_backbone/blocks.0/blocks.0.3/Conv"]
    ((_, _, read),) = [edge for edge in shown["edges"] if edge[0] == conv]
    assert read == "FP32"
    assert shown["nodes"][conv]["shape"].startswith("1×")
    assert shown["inputs"][0]["shape"].startswith("1×")


def test_inputs_and_outputs_lead_to_the_nodes_that_read_and_write_them(shown):
    (reader,) = shown["inputs"][0]["nodes"]
    assert shown["nodes"][reader]["name"] == "/pts_backbone/blocks.0/blocks.0.0/Conv"
    assert all(len(end["nodes"]) == 1 for end in shown["outputs"])


def test_a_quantized_node_says_its_type_its_rule_and_its_scale(centerpoint, shown):
    found = node(shown, "blocks.0.3/Conv")
    amax = centerpoint.ranges["/pts_backbone/blocks.0/blocks.0.2/Relu_output_0"].amax
    scale = brief(float(scale_of(amax, INT8)))
    assert (found["precision"], found["kind"]) == ("INT8", "int8")
    assert found["why"] == "weighted-Conv"
    assert found["scale"] == [scale, scale]


def test_a_node_left_float_says_why(shown):
    found = node(shown, "ConvTranspose")
    assert (found["kind"], found["why"]) == ("float", "--skip deblocks")


def test_a_node_that_nobody_would_quantize_is_told_apart(shown):
    assert node(shown, "/Relu")["kind"] == "none"


def test_tensors_have_their_range_and_what_every_method_reads(centerpoint, shown):
    name = "/pts_backbone/blocks.0/blocks.0.2/Relu_output_0"
    found = next(t for t in shown["tensors"] if t["name"] == name)
    assert found["used"]["amax"] == brief(centerpoint.ranges[name].amax)
    assert [r["method"] for r in found["readings"]] == list(METHODS)
    for reading in found["readings"]:
        expected = read_ranges(centerpoint.stats, parse_method(reading["method"]), INT8)[name]
        assert reading["amax"] == brief(expected.amax)
        assert reading["expected_error"] == brief(expected.expected_error)


def test_the_method_in_use_has_the_error_that_its_reading_has(shown):
    for tensor in shown["tensors"]:
        mse = next(r for r in tensor["readings"] if r["method"] == "mse")
        assert mse["sqnr"] == tensor["used"]["sqnr"]


def test_a_node_points_to_the_tensor_that_it_reads(shown):
    read = node(shown, "blocks.0.3/Conv")["reads"][0]
    assert shown["tensors"][read["place"]]["name"] == read["tensor"]


def test_without_statistics_there_are_ranges_and_no_histograms(evidence):
    shown = content(replace(evidence, stats=None))
    assert all("histogram" not in t and "used" in t for t in shown["tensors"])
    assert not any("input_sqnr" in n for n in shown["nodes"])


def test_a_node_in_a_group_has_an_equal_part_of_its_damage(evidence, ranking):
    first, second = ranking.rows[:2]
    group = replace(first, name="blocks", nodes=(*first.nodes, *second.nodes), share=0.5)
    shown = content(replace(evidence, ranking=replace(ranking, rows=(group,))))
    parts = [n for n in shown["nodes"] if "share" in n]
    assert [(n["share"], n["unit"]) for n in parts] == [(0.25, "blocks")] * 2


def test_infinite_scores_are_text_as_json_has_no_number_for_them(evidence, ranking):
    row = replace(ranking.rows[0], overall=Score(float("inf"), 0.0))
    shown = content(replace(evidence, ranking=replace(ranking, rows=(row,))))
    json.dumps(shown, allow_nan=False)
    assert shown["sensitivity"]["rows"][0]["score"] == "inf"


def test_a_graph_alone_has_no_sections_but_those_of_graphs(of_graph, quantized_model):
    shown = content(of_graph(quantized_model("conv")))
    assert not {"sensitivity", "search", "comparison", "engine", "agreement"} & shown.keys()
    (found,) = shown["nodes"]
    assert (found["precision"], found["scale"], found["weight_scale"]) == (
        "INT8",
        [0.5, 0.5],
        [0.25, 0.25],
    )


def test_cards_have_a_verdict_where_there_is_one(full):
    states = {card["label"]: card["state"] for card in content(full)["summary"]}
    assert states == {
        "SQNR": "bad",  # the comparison failed
        "sqnr, all quantized": "",
        "cost": "good",
        "coverage": "",
        "engine": "bad",  # a node runs in another type
        "most clipped": "",
    }


def test_the_verdict_is_that_of_the_manifest_and_says_nothing_twice():
    part = {"part": "scores", "sqnr_db": 16.3, "spread_db": 6.2, "least_db": 0.7}
    why = "scores has 16.3 dB ± 6.2 (least 0.7), and single samples are poor"
    said = {"grade": "doubtful", "why": why, "next": "onnxq tune", "goal_db": 15}
    found = verdict_of({"verdict": said, "agreement": {"headline": part}})
    assert found == Verdict("doubtful", "scores: 16.3 dB ± 6.2 (least 0.7)",
                            "and single samples are poor", "onnxq tune")  # fmt: skip
    assert verdict_of({"verdict": None, "agreement": {}}) is None
    assert verdict_of(None) is None


def test_a_search_says_what_its_cost_was_learnt_from(full, evidence):
    learnt = content(full)["search"]["learnt"]
    assert learnt["lines"][0] == full.search.learnt.pays.headline
    assert [row["ms"] for row in learnt["times"]] == [1.5, 0.25, 0.125, 0.0625]
    assert sum(row["ms"] for row in learnt["times"]) == full.search.learnt.total_ms
    rates = {row["name"].split(",")[0]: row["rate"] for row in learnt["rates"]}
    assert rates == {"fp16": 70.0, "int8": 140.0, "bandwidth": 1234.0, "a kernel at least": 2.0}
    assert learnt["errors"][0] == {"name": "Conv_9", "error": -40.0}
    plain = replace(evidence, search=replace(full.search, learnt=None))
    assert content(plain)["search"]["learnt"] is None


def test_commands_are_shown_once_and_in_order(shown):
    assert shown["provenance"]["commands"] == ["onnxq quantize"]


EVIL = "</script><script>alert(1)</script>{{data}}&amp;\u2028"


def test_names_of_a_model_stay_names(of_graph, quantized_model):
    page = render(content(of_graph(quantized_model(EVIL))))
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert json.loads(data[1])["nodes"][0]["name"] == EVIL
    assert "alert(1)<" not in page
    assert page.count("<script") == 2  # the data and the page's own


def test_a_title_is_escaped(of_graph, quantized_model):
    page = render(content(of_graph(quantized_model("conv"), "<b>&.onnx")))
    assert "<title>&lt;b&gt;&amp;.onnx · onnxq</title>" in page


def test_the_page_names_no_address_but_that_of_svg(shown):
    addresses = set(re.findall(r"https?://[^\s\"')]+", render(shown)))
    assert addresses == {"http://www.w3.org/2000/svg"}


finite = st.floats(-1e6, 1e6, width=32)


@given(arrays(np.float32, st.integers(1, 300), elements=finite))
def test_the_bars_of_a_histogram_hold_all_values(values):
    drawn = curve(histogram_of(values))
    assert len(drawn["counts"]) == BARS
    # five digits are kept of each bar
    assert sum(drawn["counts"]) == pytest.approx(values.size, rel=1e-4)
    assert all(count >= 0 for count in drawn["counts"])


def test_the_bars_are_those_of_numpy_up_to_the_width_of_a_bin(rng):
    values = rng.normal(size=200_000).astype(np.float32)
    drawn = curve(histogram_of(values))
    expected, _ = np.histogram(values, BARS, (values.min(), values.max()))
    # near the ends a bin of the float's upper bits is 1/4 as wide as a bar: counts move to the next
    assert np.abs(np.array(drawn["counts"]) - expected).sum() < 0.02 * values.size
