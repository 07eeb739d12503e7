"""Rankings: order, ties, shares, and what is written and read back."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from onnxq.errors import PlanError, RuntimeMissing
from onnxq.judge.metrics import Mse, Sqnr
from onnxq.judge.spread import jackknife
from onnxq.report import ranking as report
from onnxq.sensitivity.ranking import Ranking, Row
from onnxq.sensitivity.readings import Judge, ranked


def judged(judge, **noises):
    """Ranked rows of units with the given noise in each sample, of signal 1 and count 1."""
    rows, readings = [], []
    for name, noise in noises.items():
        found = {"y": np.array([[n, 1.0, 1.0] for n in noise])}
        reading = judge.read(found)
        scores = judge.scores(found)
        rows.append(Row(0, False, name, "Conv", (name,), reading.score, scores, 0.0, {},
                        0.25, 10, 2000, len(noise)))  # fmt: skip
        readings.append(reading)
    return ranked(rows, readings)


def test_the_worst_comes_first_and_shares_add_up():
    rows = judged(Judge(Mse()), a=[0.1, 0.1], b=[0.6, 0.6], c=[0.3, 0.3])
    assert [row.name for row in rows] == ["b", "c", "a"]
    assert [row.rank for row in rows] == [1, 2, 3]
    assert [row.share for row in rows] == pytest.approx([0.6, 0.3, 0.1])
    assert not any(row.tied for row in rows)


def test_what_the_samples_cannot_tell_apart_shares_a_rank():
    rows = judged(Judge(Mse()), a=[1.0, 3.0, 2.0, 2.2], b=[3.0, 1.0, 2.2, 1.9], c=[0.1] * 4)
    assert [(row.name, row.rank, row.tied) for row in rows] == [
        ("a", 1, True),
        ("b", 1, True),
        ("c", 3, False),
    ]


def test_a_small_difference_that_every_sample_shows_is_no_tie():
    noisy = np.array([1.0, 3.0, 2.0, 2.2])
    rows = judged(Judge(Mse()), a=noisy + 0.01, b=noisy)
    assert [(row.name, row.rank) for row in rows] == [("a", 1), ("b", 2)]


def test_equal_damage_is_a_tie_even_with_one_sample():
    rows = judged(Judge(Mse()), a=[1.0], b=[1.0], c=[0.5])
    assert [(row.rank, row.tied) for row in rows] == [(1, True), (1, True), (3, False)]
    assert rows[0].overall.stderr is None


def test_the_jackknife_of_a_mean_is_its_standard_error(rng):
    x = rng.normal(size=20)
    left_out = (x.sum() - x) / 19
    assert jackknife(left_out) == pytest.approx(x.std(ddof=1) / math.sqrt(20))
    assert jackknife(left_out[:1]) is None


def test_the_worst_output_decides():
    found = {"boxes": np.array([[0.1, 1.0, 1]]), "classes": np.array([[0.01, 1.0, 1]])}
    score = Judge(Sqnr()).read(found).score
    assert score.score == pytest.approx(10.0)
    assert score.damage == pytest.approx(0.1)


def test_one_off_damage_is_what_leaving_a_unit_float_takes_away():
    everything = {"y": np.array([[0.5, 1.0, 1.0]])}
    score = Judge(Mse(), quantized=everything).read({"y": np.array([[0.2, 1.0, 1.0]])}).score
    assert score.damage == pytest.approx(0.3)


@pytest.fixture
def ranking():
    rows = judged(Judge(Sqnr()), **{"/a/Conv": [0.1, 0.1], "/b|c/Conv": [0.0, 0.0]})
    return Ranking("0" * 64, "one-on", "node", "sqnr", True, "outputs", 2, rows,
                   quantized_score=math.inf, curve=((0, 10.0), (1, math.inf)))  # fmt: skip


def test_json_reads_back_as_it_was(ranking, tmp_path):
    ranking.save(tmp_path / "r.json")
    assert Ranking.load(tmp_path / "r.json") == ranking


def test_csv_has_a_line_a_unit(ranking):
    rows = list(csv.DictReader(io.StringIO(ranking.to_csv())))
    assert [row["node"] for row in rows] == ["/a/Conv", "/b|c/Conv"]
    assert float(rows[0]["score"]) == pytest.approx(10.0)
    assert (rows[0]["sat_ratio"], rows[0]["parameters"], rows[0]["macs"]) == ("0.25", "10", "2000")
    assert float(rows[1]["score"]) == math.inf


def test_markdown_has_a_line_a_unit_and_the_curve(ranking):
    text = report.markdown(ranking)
    assert "| /a/Conv | 1 | Conv | 10 | 100.0 |" in text
    assert r"/b\|c/Conv" in text
    assert "| 1 | inf |" in text


def test_the_skip_list_names_nodes_exactly(ranking):
    assert ranking.skip_list(1).splitlines()[1:] == ["name:/a/Conv"]


def test_other_forms_are_refused_with_the_list_of_known_ones(tmp_path):
    with pytest.raises(PlanError, match=r"'r\.xls'; choose \.csv, \.json, \.md, \.png, \.svg"):
        report.check_path(tmp_path / "r.xls")


def test_a_plot_is_drawn_or_the_extra_is_named(ranking, tmp_path):
    for suffix in (".svg", ".png"):
        path = tmp_path / f"r{suffix}"
        try:
            report.save(ranking, path)
        except RuntimeMissing as e:
            assert 'pip install "onnxq[plot]"' in str(e)  # noqa: PT017
            assert not path.exists()
        else:
            assert path.read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "onnxq.plan", "version": 1}'])
def test_a_file_that_is_no_ranking_is_refused(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(PlanError, match="is not a ranking that can be read"):
        Ranking.load(path)
