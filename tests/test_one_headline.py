"""One truth about a detector: every verb says the same of the same plan, at the same worst part."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from onnxq_cli.main import run

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "yolo_like"
MODEL, HELD = FIXTURE / "yolo_like.onnx", 3
DATA = ("--calib", "calib.npz", "--check-samples", HELD, "--plan", "plan.yaml")
FEW = ("--rank-samples", 2)
PLAIN = ("--recover", "none")
JUDGED = ("--calib", "held.npz")


def printed(*words):
    """What a command prints."""
    out = StringIO()
    with redirect_stdout(out):
        assert run([str(word) for word in words]) in (0, 1)
    return out.getvalue()


def document(*words):
    return json.loads(printed(*words, "--json"))


def headline(found):
    return float(found["headline"]["sqnr_db"]), found["headline"]["part"]


def worst(trial):
    return min((float(score), part) for part, score in trial["parts"].items())


def models():
    """Verb -> (SQNR in dB, the part) of its headline, in JSON, of the model that was written."""
    made = document("quantize", MODEL, *DATA, *PLAIN, "-o", "r.onnx")
    pair = document("diff", "q.onnx", "q.onnx", *JUDGED, "--reference", MODEL)
    return {
        "quantize": headline(made["agreement"]),
        "manifest": headline(json.loads(Path("q.onnx.manifest.json").read_text())["agreement"]),
        "compare": headline(document("compare", MODEL, "q.onnx", *JUDGED)),
        "diff": headline({"headline": pair["effect_headline"]["B against FLOAT"]}),
    }


def plans():
    """The same of the verbs that measure plans, the one that quantizes all among them."""
    search = document("search", MODEL, *DATA, *PLAIN, "--min-sqnr", 1, "--points", 1, *FEW,
                      "--trials", 1, "-o", "s.yaml")  # fmt: skip
    recipe = document("recipe", MODEL, *DATA, *PLAIN, "--worst", 0, *FEW, "-o", "folder")
    (whole,) = (trial for trial in search["trials"] if not trial["float"])
    chosen = min((score, part) for part, score in search["outputs_sqnr_db"].items())
    return {
        "search": worst(whole),
        "search, in the end": chosen,
        "recipe": worst(recipe["steps"][0]["trial"]),
    }


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What `quantize` prints of a model `q.onnx` in the current folder, beside what it read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("headline"))
        patch.setenv("COLUMNS", "100")
        x = np.load(FIXTURE / "calib.npy")
        np.savez("calib.npz", images=np.concatenate([x, x[..., ::-1], x[..., ::-1, :]]))
        printed("data", "--model", MODEL, "--from", "calib.npz", "--check-samples", HELD,
                "-o", "held.npz")  # fmt: skip
        printed("plan", MODEL, "-o", "plan.yaml")
        yield printed("quantize", MODEL, *DATA, *PLAIN, "-o", "q.onnx", "--save-stats",
                      "stats.npz", "--report", "q.html")  # fmt: skip


@pytest.mark.usefixtures("said")
def test_every_verb_has_one_headline():
    found = models() | plans()
    assert len({(round(sqnr, 3), part) for sqnr, part in found.values()}) == 1, found


@pytest.mark.usefixtures("said")
def test_a_ranking_scores_the_whole_plan_at_the_same_part():
    ranked = document("sensitivity", MODEL, "--calib", "calib.npz", "--plan", "plan.yaml",
                      "--eval", "held.npz", "--stats", "stats.npz", "--curve", 0)  # fmt: skip
    sqnr, _ = headline(document("compare", MODEL, "q.onnx", *JUDGED))
    (_, score), *_ = ranked["curve"]
    # biases are not rounded there, as a plain session rounds them
    assert score == pytest.approx(sqnr, abs=0.1)


def test_people_read_the_same_everywhere(said):
    sqnr, part = headline(document("compare", MODEL, "q.onnx", *JUDGED))
    line = f"the worst: {part}, {sqnr:.1f} dB"
    assert line in said
    assert line in printed("compare", MODEL, "q.onnx", *JUDGED)
    pair = printed("diff", "q.onnx", "q.onnx", *JUDGED, "--reference", MODEL)
    assert pair.count(line) == 2  # A and B against the float model
    page = Path("q.html").read_text()
    assert f"{sqnr:.1f} dB" in page
    assert f"worst of 2 outputs, '{part}'" in page or f"worst of 2 outputs, \u0027{part}" in page


def test_parts_are_read_through_the_codes_of_the_model_that_is_held_against_another(said):
    # without a float model, the first of two quantized ones says what the parts are
    pair = document("diff", "q.onnx", "q.onnx", *JUDGED)
    assert list(pair["effect_parts"]["B against A"]) == ["boxes", "scores"]
    assert list(pair["effect"]["B against A"]) == ["output0"]
