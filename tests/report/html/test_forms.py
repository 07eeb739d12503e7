"""The badge and the summary beside the page."""

from xml.etree import ElementTree

import pytest

from onnxq.errors import OnnxqError
from onnxq.escaping import markdown_code, markdown_text
from onnxq.report.html.badge import COLOURS, badge
from onnxq.report.html.content import content
from onnxq.report.html.page import write_forms
from onnxq.report.html.pull_request import markdown


def manifest(grade, part="scores", db=16.3):
    said = {"grade": grade, "why": "", "next": "", "goal_db": 15}
    return {"verdict": said, "agreement": {"headline": {"part": part, "sqnr_db": db}}}


@pytest.mark.parametrize("grade", ["good", "doubtful", "poor"])
def test_a_badge_says_the_grade_and_the_decibels(grade):
    text = badge(manifest(grade))
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == f"onnxq: {grade} 16.3 dB"
    assert COLOURS[grade] in text
    assert int(root.get("width")) < 200
    assert len(text) < 1000


def test_a_badge_without_a_verdict_says_so():
    assert "not judged" in badge(None)


def test_no_name_of_a_part_gets_into_a_badge():
    assert "<b>" not in badge(manifest("poor", "<b>: x", float("nan")))


def test_a_summary_has_the_verdict_the_cards_and_the_outputs(evidence):
    shown = content(evidence)
    text = markdown(shown)
    verdict = shown["verdict"]
    assert text.startswith("### onnxq: `model.onnx`")
    assert f"**{verdict['grade']}**, " in text
    assert all(card["value"] in text for card in shown["summary"])
    worst = min(shown["agreement"]["outputs"], key=lambda o: o["sqnr_db"])
    assert f"| {worst['name']} | {worst['sqnr_db']:.1f} |" in text
    assert verdict["next"] in text


def test_names_make_no_markup_in_a_summary(evidence):
    shown = {**content(evidence), "title": "a`b\n# c"}
    shown["verdict"] = {"grade": "poor", "worst": "<b>|*x*: 3 dB", "more": "", "next": ""}
    text = markdown(shown)
    assert text.splitlines()[0] == f"### onnxq: {markdown_code(shown['title'])}"
    assert markdown_text("<b>|*x*: 3 dB") in text
    assert "<b>" not in text


def test_all_forms_are_written_or_none(evidence, tmp_path):
    there = tmp_path / "page.html", tmp_path / "b.svg", tmp_path / "s.md"
    write_forms(evidence, *there)
    assert all(path.stat().st_size for path in there)
    new = tmp_path / "new.html"
    with pytest.raises((OnnxqError, OSError)):
        write_forms(evidence, new, tmp_path / "missing" / "b.svg")
    assert not new.exists()
