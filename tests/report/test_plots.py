"""Plots: what is drawn in them, in every form, the same bytes each time."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxq.calib.histogram import histogram_of
from onnxq.calib.stats import Stats
from onnxq.cost.counted import Share
from onnxq.errors import DataError, PlanError, RuntimeMissing
from onnxq.report import figure as figures
from onnxq.report import plot_histogram, plot_pareto, plot_ranking
from onnxq.report.figure import Look
from onnxq.search.result import Result, Trial
from onnxq.sensitivity.ranking import Ranking, Row, Score
from onnxq.spec import QuantSpec

pytest.importorskip("matplotlib")
MODEL = "0" * 64
INT8 = QuantSpec()


@pytest.fixture
def values(rng):
    return rng.normal(size=20_000).astype(np.float32)


@pytest.fixture
def stats(values):
    tensors = {"x": values, "relu": np.maximum(values, 0), "none": np.zeros(4), "empty": []}
    return Stats(MODEL, {name: histogram_of(x) for name, x in tensors.items()}, 2)


@pytest.fixture
def ranking():
    shares = [0.6, 0.3, 0.1]
    rows = tuple(
        Row(i + 1, False, f"/net/layer.{i}/Conv", "Conv", (f"/net/layer.{i}/Conv",),
            Score(30.0 + i, share, share / 10), {"y": 30.0 + i}, share, {}, 0.0, 10, 100, 8)
        for i, share in enumerate(shares)
    )  # fmt: skip
    return Ranking(MODEL, "one-on", "node", "sqnr", True, "outputs", 8, rows,
                   curve=((0, 28.0), (1, 31.0), (3, math.inf)))  # fmt: skip


def trial(cost, score, floats=(), front=True, holds=True):
    shares = {"int8": Share(1 - cost, 1 - cost), "float": Share(cost, cost)}
    return Trial({"a": "int8"}, tuple(floats), cost, cost, shares, 0.1, score, 0.5, {"y": score},
                 holds, front)  # fmt: skip


@pytest.fixture
def result():
    trials = (trial(0.3, 20.0, holds=False), trial(0.5, 31.0, ["b"]),
              trial(0.6, 25.0, ["c"], front=False, holds=False), trial(0.8, 40.0, ["b", "c"]),
              trial(1.0, math.inf, ["a", "b", "c"]))  # fmt: skip
    return Result(MODEL, "sqnr", True, math.inf, "SQNR of at least 30 dB", "ops", ("int8",), 8,
                  trials, trials[1], None, None, {"y": 31.0})  # fmt: skip


def drawn(stats, tensor="x", methods=("max", "mse"), spec=INT8, look=None):
    marks = plot_histogram.marks_of(stats, tensor, methods, spec)
    figure = plot_histogram.draw(stats, tensor, marks, spec, look or Look())
    return marks, *figure.axes


def test_counts_in_equal_bins_are_those_of_the_values(values):
    edges = np.linspace(values.min(), values.max(), 21)
    found = plot_histogram.counts_in(histogram_of(values, np.zeros(500)), edges)
    expected, _ = np.histogram(np.concatenate([values, np.zeros(500, np.float32)]), edges)
    assert found.sum() == pytest.approx(20_500)
    # an edge may cut a bin of 1/128 octave, 0.03 wide at the most, whose values count as spread
    assert np.abs(found - expected).max() < 0.03 * 20_500 * 0.4


def test_every_method_is_a_line_at_each_end_of_its_range_and_a_point_on_the_curve(stats):
    marks, upper, lower = drawn(stats)
    ends = [line.get_xdata()[0] for line in upper.get_lines()]
    assert ends == [end for m in marks for end in (-m.range.amax, m.range.amax)]
    curve, *points = lower.get_lines()
    for mark, point in zip(marks, points, strict=True):
        (x,), (y,) = point.get_data()
        assert (x, y) == (mark.range.amax, mark.sqnr_db)
        # between two of 160 points over 4 octaves the curve bends by less than this
        assert np.interp(x, *curve.get_data()) == pytest.approx(y, abs=0.1)
        assert f"expected error {mark.range.expected_error:.2g}" in point.get_label()


def test_no_two_of_many_methods_look_the_same(stats):
    methods = ["max", "mse", *(f"percentile:{p}" for p in range(90, 100))]
    _, _, lower = drawn(stats, methods=methods)
    looks = {(p.get_color(), p.get_linestyle(), p.get_marker()) for p in lower.get_lines()[1:]}
    assert len(looks) == len(methods)


def test_a_method_has_the_same_colour_for_every_tensor(stats):
    def colours(tensor):
        points = drawn(stats, tensor, plot_histogram.METHODS)[2].get_lines()[1:]
        return [(p.get_label().partition(":")[0], p.get_color()) for p in points]

    assert colours("x") == colours("relu")


def test_a_tensor_without_negative_values_has_one_line_a_method(stats):
    marks, upper, _ = drawn(stats, "relu")
    assert len(upper.get_lines()) == len(marks) == 2
    assert "50" in upper.get_xlabel()  # about half are zero


def test_an_asymmetric_type_is_drawn_with_its_two_ends(stats):
    marks, upper, _ = drawn(stats, spec=QuantSpec("uint8"), methods=("max",))
    ends = [line.get_xdata()[0] for line in upper.get_lines()]
    assert ends == [marks[0].range.low, marks[0].range.high]


def test_the_counts_are_drawn_in_bins_of_equal_width(stats):
    _, upper, _ = drawn(stats)
    counts, edges, _ = upper.patches[0].get_data()
    assert counts.sum() == pytest.approx(20_000)
    assert np.diff(edges) == pytest.approx(np.ptp(edges) / plot_histogram.BINS)


def test_entropy_is_no_method_for_fp8():
    assert "entropy" in plot_histogram.methods_for(INT8)
    assert "entropy" not in plot_histogram.methods_for(QuantSpec("fp8"))


@pytest.mark.parametrize(("tensor", "said"), [("none", "all zeros"), ("empty", "no values")])
def test_a_tensor_with_nothing_to_draw_is_refused(stats, tensor, said):
    with pytest.raises(DataError, match=said):
        plot_histogram.draw(stats, tensor, [], INT8, Look())


def test_a_tensor_that_is_not_there_names_its_neighbours(stats):
    with pytest.raises(DataError, match="'relo'; the nearest names are 'relu'"):
        plot_histogram.check_tensor(stats, "relo")


def test_auto_reads_no_histogram(stats):
    with pytest.raises(PlanError, match="'auto' compares whole models"):
        plot_histogram.marks_of(stats, "x", ["auto"], INT8)


def test_a_ranking_has_a_bar_a_unit_and_its_curve(ranking):
    figure = plot_ranking.draw(plot_ranking.bars_of(ranking))
    bars, curve = figure.axes
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([60, 30, 10])
    (line,) = curve.get_lines()
    assert list(line.get_xdata()) == [0, 1]  # what loses nothing has no finite SQNR
    assert curve.get_ylabel() == "SQNR, dB"


def test_a_ranking_is_drawn_with_as_many_bars_as_asked(ranking):
    figure = plot_ranking.draw(plot_ranking.bars_of(ranking), 2)
    assert len(figure.axes[0].patches) == 2
    assert "the worst 2 of 3" in figure.get_suptitle()


def test_a_csv_ranking_has_the_same_bars(ranking, tmp_path):
    ranking.save(tmp_path / "r.csv")
    ranking.save(tmp_path / "r.json")
    read = {suffix: plot_ranking.read(tmp_path / f"r.{suffix}") for suffix in ("csv", "json")}
    assert read["csv"].bars == read["json"].bars
    assert read["json"].curve == ranking.curve


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "node,share,damage,stderr,score\nx,,,,\n"])
def test_a_csv_that_is_no_ranking_is_refused(tmp_path, text):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(PlanError, match=r"not a ranking that can be read|the ranking is empty"):
        plot_ranking.draw(plot_ranking.read(tmp_path / "r.csv"))


def test_a_search_has_its_front_what_misses_and_what_was_chosen(result):
    axis = plot_pareto.draw(result).axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert list(lines["front: none cheaper is as good"].get_xdata()) == [0.3, 0.5, 0.8]
    assert list(lines["off the front"].get_xdata()) == [0.6]
    assert list(lines["misses the budget"].get_xdata()) == [0.3, 0.6]
    chosen = next(c for c in axis.collections if c.get_label() == "chosen")
    assert chosen.get_offsets().tolist() == [[0.5, 31.0]]


def test_the_float_models_score_is_a_line_where_there_is_one(result):
    axis = plot_pareto.draw(replace(result, metric="top1", reference=99.0)).axes[0]
    line = next(line for line in axis.get_lines() if line.get_label() == "float model")
    assert set(line.get_ydata()) == {99.0}
    assert axis.get_ylabel() == "top-1, %"


def test_a_search_result_reads_back_but_for_its_plan(result, tmp_path):
    (tmp_path / "p.json").write_text(result.to_json())
    assert Result.load(tmp_path / "p.json") == result


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "onnxq.ranking", "version": 1}', "{"])
def test_a_file_that_is_no_search_result_is_refused(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(PlanError, match="not a search result that can be read"):
        Result.load(tmp_path / "p.json")


def test_a_search_with_nothing_finite_is_refused(result):
    with pytest.raises(PlanError, match="nothing to draw"):
        plot_pareto.draw(replace(result, trials=result.trials[-1:]))


@pytest.mark.parametrize("suffix", figures.FORMS)
def test_every_plot_is_written_in_every_form(stats, ranking, result, tmp_path, suffix):
    head = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    marks = plot_histogram.marks_of(stats, "x", plot_histogram.METHODS, INT8)
    for narrow in (Look(), Look(width=3.5)) if suffix == ".png" else (Look(),):
        for figure in (plot_histogram.draw(stats, "x", marks, INT8, narrow),
                       plot_ranking.draw(plot_ranking.bars_of(ranking), look=narrow),
                       plot_pareto.draw(result, narrow)):  # fmt: skip
            path = tmp_path / f"plot{suffix}"
            figures.write(figure, path)
            assert path.read_bytes().startswith(head)
            assert path.stat().st_size > 4000


def test_a_title_is_the_given_one_or_none(result):
    assert "SQNR of at least 30 dB" in plot_pareto.draw(result).get_suptitle()
    assert plot_pareto.draw(result, Look("Mine")).get_suptitle() == "Mine"
    assert plot_pareto.draw(result, Look("")).get_suptitle() == ""


def test_a_dollar_in_a_name_is_a_dollar(ranking, tmp_path):
    rows = (replace(ranking.rows[0], name="a$x^2$b"), *ranking.rows[1:])
    figure = plot_ranking.draw(plot_ranking.bars_of(replace(ranking, rows=rows)))
    figures.write(figure, tmp_path / "r.svg")
    assert "a$x^2$b" in (tmp_path / "r.svg").read_text()  # as the comment beside the glyphs


def test_a_long_name_keeps_its_end():
    assert figures.shortened("/backbone/blocks.0/Conv", 12) == "…ocks.0/Conv"
    assert figures.shortened("/Conv", 12) == "/Conv"


@pytest.mark.parametrize("suffix", figures.FORMS)
def test_equal_input_gives_equal_bytes_in_another_process_too(result, tmp_path, suffix):
    (tmp_path / "p.json").write_text(result.to_json())
    command = [sys.executable, "-m", "onnxq_cli", "plot", "pareto", "p.json", "-o"]
    subprocess.run([*command, f"a{suffix}"], cwd=tmp_path, check=True)
    figures.write(plot_pareto.draw(Result.load(tmp_path / "p.json")), tmp_path / f"b{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    if suffix == ".svg":
        text = (tmp_path / "a.svg").read_text()
        assert not re.search(r"20\d\d-\d\d-\d\d", text)  # no date


def test_a_users_own_settings_change_nothing_and_are_left_alone(result, tmp_path):
    import matplotlib

    figures.write(plot_pareto.draw(result), tmp_path / "a.svg")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "none"}):
        figures.write(plot_pareto.draw(result), tmp_path / "b.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_form_that_is_not_known_is_refused():
    with pytest.raises(PlanError, match=r"'p\.gif'; choose \.png, \.svg, \.pdf"):
        figures.check_path(Path("p.gif"))


@pytest.mark.parametrize("width", [0.0, -1.0, 100.0, math.nan])
def test_a_width_that_no_page_has_is_refused(width):
    with pytest.raises(PlanError, match="give inches from 3 to 40"):
        Look(width=width)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RuntimeMissing, match=r'pip install "onnxq\[plot\]"'):
        figures.check_path(Path("p.svg"))
