"""`onnxq tune`: one folder, one figure, one exit code."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest


@pytest.fixture
def few(folder, images):
    np.save("few.npy", np.load(images)[:32])
    return Path("few.npy")


def test_a_goal_that_the_default_meets_is_quantize(done, classifier, few):
    ran = done("tune", classifier, "--calib", few, "--min-sqnr", 20, "-o", "made")
    done("quantize", classifier, "--calib", few, "-o", "plain.onnx")
    made, plain = (onnx.load(path) for path in ("made/classifier.int8.onnx", "plain.onnx"))
    assert made.graph == plain.graph
    found = json.loads(Path("made/tune.json").read_text())
    manifest = json.loads(Path("made/classifier.int8.onnx.manifest.json").read_text())
    headline = manifest["agreement"]["headline"]
    assert headline["sqnr_db"] == round(found["rungs"][0]["sqnr_db"], 3)
    figure = f"{headline['sqnr_db']:.1f}"
    assert f"default, taken {figure}" in " ".join(ran.out.split())
    assert f"default, {figure} dB (logits)" in ran.out
    assert f"default: {figure} dB (logits)" in ran.err


def test_the_page_of_the_model_that_is_written_says_the_same_figure(done, classifier, few):
    done("tune", classifier, "--calib", few, "--min-sqnr", 20, "-o", "made")
    found = json.loads(Path("made/tune.json").read_text())
    done("report", "made/classifier.int8.onnx", "-o", "page.html")
    assert f"{found['rungs'][0]['sqnr_db']:.1f} dB" in Path("page.html").read_text()


def test_few_judges_are_said_to_tell_little(done, classifier, images):
    np.save("fewer.npy", np.load(images)[:3])
    ran = done("tune", classifier, "--calib", "fewer.npy", "--min-sqnr", 20, "-o", "made")
    said = " ".join(ran.out.split())
    assert "by 3 samples that calibrate too, which tell little: give --eval DATA" in said


def test_what_was_taken_is_quantized_again_by_its_plan_and_configuration(
    onnxq, done, classifier, few, monkeypatch
):
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    ran = onnxq("tune", classifier, "--calib", few, "--min-sqnr", 90, "--recover", "none", "--json",
                "-o", "made")  # fmt: skip
    assert ran.code == 1
    assert "no rung meets the goal (SQNR of at least 90 dB); the best: " in ran.err
    found = json.loads(ran.out)
    assert found == json.loads(Path("made/tune.json").read_text())
    assert found["rungs"][found["chosen"]]["floats"]
    assert 'pip install "onnxq[finetune]"' in found["rungs"][-1]["why"]
    done("quantize", classifier, "--calib", few, "--plan", "made/plan.yaml",
         "--config", "made/config.yaml", "-o", "again.onnx")  # fmt: skip
    made, again = (onnx.load(path) for path in ("made/classifier.int8.onnx", "again.onnx"))
    assert made.graph == again.graph


def test_a_finished_run_says_so(done, classifier, few):
    Path("model.onnx").write_bytes(classifier.read_bytes())
    words = ("tune", "model.onnx", "--calib", few, "--agreement", 0.5)
    first = done(*words)
    assert Path("model.tuned/model.int8.onnx").is_file()
    again = done(*words)
    assert "finished before; nothing was run" in again.out
    assert "finished before" not in first.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "there is no goal; give one of --min-sqnr 20"),
        (("--min-sqnr", 20, "--agreement", 0.9), "are several goals"),
        (("--max-drop", "1%", "--metric", "top1"), "needs labels"),
        (("--min-sqnr", 20, "--cost", "ort"), "which tune does not"),
        (("--min-sqnr", 20, "--cost", "none.json"), "'none.json' is not a file"),
        (("--min-sqnr", 20, "--layers", "l.json"), "--cost PROFILE.json"),
        (("--min-sqnr", 20, "--check-samples", 0), "give --eval DATA"),
        (("--agreement", 0.9, "--output", "nonsense"), "the model has no output 'nonsense'"),
    ],
)
def test_what_cannot_be_done_is_one_line(refused, classifier, few, options, message):
    assert message in refused("tune", classifier, "--calib", few, *options, "-o", "made")
    assert not Path("made").exists()
