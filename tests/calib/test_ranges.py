"""Ranges: read off statistics, shared in groups, saved to be read and diffed."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxq.calib.histogram import histogram_of
from onnxq.calib.max import Max
from onnxq.calib.mse import Mse
from onnxq.calib.observed import settle
from onnxq.calib.percentile import Percentile
from onnxq.calib.quant_error import expected_error, sat_ratio
from onnxq.calib.ranges import Range, Ranges, read_ranges
from onnxq.calib.stats import Stats
from onnxq.errors import DataError, OnnxqError, PlanError
from onnxq.passes.prepare import prepare
from onnxq.spec import QuantSpec
from onnxq.targets import tensorrt
from onnxq.targets.options import PlanOptions

INT8 = QuantSpec()
RNG = np.random.default_rng(0)
SMALL, LARGE = histogram_of(RNG.normal(size=5000)), histogram_of(9 * RNG.normal(size=5000))
STATS = Stats("a" * 64, {"small": SMALL, "large": LARGE, "zeros": histogram_of(np.zeros(4))}, 3)


def test_each_tensor_gets_the_range_its_method_reads():
    ranges = read_ranges(STATS, Percentile(99.0), INT8)
    amax = Percentile(99.0)(SMALL, INT8)
    assert ranges["small"] == Range(
        amax, "Percentile(p=99.0)", sat_ratio(SMALL, amax), expected_error(SMALL, amax, INT8)
    )
    assert ranges["zeros"].amax == ranges["zeros"].expected_error == 0
    assert list(ranges.tensors) == ["large", "small", "zeros"]


def test_a_group_shares_the_range_of_all_its_values():
    ranges = read_ranges(STATS, Mse(), INT8, groups=[("small", "large")])
    assert ranges["small"].amax == ranges["large"].amax > SMALL.amax
    assert ranges["small"].sat_ratio == 0 < ranges["large"].sat_ratio


def test_a_group_with_an_unobserved_tensor_is_an_error():
    with pytest.raises(DataError, match="no statistics for tensor 'none'"):
        read_ranges(STATS, Max(), INT8, groups=[("small", "none")])


def test_a_tensor_in_two_groups_is_an_error():
    with pytest.raises(PlanError, match="'small' is in two groups"):
        read_ranges(STATS, Max(), INT8, groups=[("small", "large"), ("zeros", "small")])


def test_values_that_are_not_finite_are_reported_with_their_tensor():
    stats = Stats("m", {"ok": SMALL, "bad": histogram_of([1.0, np.nan])}, 1)
    with pytest.raises(OnnxqError, match="tensor 'bad': 1 of 2 values are infinite or NaN"):
        read_ranges(stats, Max(), INT8)


FLOATS = st.floats(0, 1e30)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8")),
        st.builds(Range, FLOATS, st.just("Mse()"), FLOATS, FLOATS),
    )
)
def test_saving_and_loading_gives_the_same_ranges(tmp_path_factory, tensors):
    path = tmp_path_factory.mktemp("ranges") / "ranges.json"
    Ranges("a" * 64, tensors).save(path)
    assert Ranges.load(path) == Ranges("a" * 64, tensors)


def test_the_file_has_a_line_for_each_tensor():
    text = read_ranges(STATS, Max(), INT8).to_json()
    (line,) = [line for line in text.splitlines() if '"small"' in line]
    assert line.startswith('    "small": {"amax": ')
    assert json.loads(text)["kind"] == "onnxq.ranges"


def test_a_wrong_kind_is_refused_with_both_named(tmp_path):
    (tmp_path / "r.json").write_text('{"kind": "onnxq.plan", "version": 2}')
    expected = "expected kind 'onnxq.ranges' version 1, found 'onnxq.plan' version 2"
    with pytest.raises(DataError, match=expected):
        Ranges.load(tmp_path / "r.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": "onnxq.ranges", "version": 1}'])
def test_a_file_that_holds_no_ranges_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match="not a ranges file or is cut short"):
        Ranges.load(tmp_path / "r.json")


@pytest.mark.parametrize("amax", ["NaN", "-1.0", "Infinity"])
def test_an_edited_range_that_is_none_is_refused(tmp_path, amax):
    text = Ranges("m", {"x": Range(1.5, "Max()", 0.0, 0.0)}).to_json()
    (tmp_path / "r.json").write_text(text.replace("1.5", amax))
    with pytest.raises(DataError, match="tensor 'x' the range"):
        Ranges.load(tmp_path / "r.json")


def test_a_missing_file_tensor_or_model_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="onnxq calibrate -o"):
        Ranges.load(tmp_path / "none.json")
    ranges = read_ranges(STATS, Max(), INT8)
    with pytest.raises(DataError, match="no range for tensor 'x'; run 'onnxq calibrate'"):
        ranges["x"]
    ranges.check_model("a" * 64)
    with pytest.raises(DataError, match=r"model a{12}, this one is b{12}"):
        ranges.check_model("b" * 64)


def test_a_percentile_of_zero_is_not_called_a_tensor_of_zeros(graph_of):
    body = "(float[8,64] x) => (float[8,32] y) { y = MatMul(x, w) }"
    graph = prepare(graph_of(body, {"w": np.ones((64, 32), np.float32)}))
    plan = tensorrt.plan(graph, PlanOptions(), "m")
    assert plan.edges
    sparse = histogram_of([0.0] * 99 + [1.0])
    for values, said in ((sparse, "has a range of zero by Percentile(p=50)"),
                         (histogram_of([0.0] * 99), "is zero in every sample")):  # fmt: skip
        ranges = read_ranges(Stats("m", {"x": values}, 1), Percentile(50), INT8)
        settled, (note,) = settle(graph, plan, ranges)
        assert not settled.edges
        assert f"'x' {said}" in note
