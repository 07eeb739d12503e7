"""A run that stops is gone on with, and gives what a run that does not stop gives."""

from __future__ import annotations

import pytest

from onnxq import api
from onnxq.errors import PlanError
from onnxq.sensitivity import Options


class Stopped(Exception):
    """Stands for Ctrl-C."""


@pytest.fixture(scope="module")
def subject(subject_of):
    return subject_of("classifier/classifier.onnx", "classifier/calib.npy", 3)


def stopping(share):
    """A progress callback that stops the run, and the steps that it saw."""
    seen = []

    def progress(stage, done, total):
        if stage != "sensitivity" or not done:  # another, or it only begins
            return
        seen.append(done)
        if done >= share * total:
            raise Stopped

    return progress, seen


@pytest.mark.parametrize("max_memory", [1, 1 << 30])
@pytest.mark.parametrize("metric", ["sqnr", "top"])
def test_stopped_half_way_and_resumed_gives_the_same(
    subject, tmp_path, monkeypatch, max_memory, metric
):
    (tmp_path / "counting.py").write_text(
        "def top(outputs):\n    return float(sum(o['logits'].max() for o in outputs))\n"
    )
    monkeypatch.chdir(tmp_path)
    metric = "counting:top" if metric == "top" else metric
    options = Options(metric=metric, max_memory=max_memory, curve=(0, 2))
    straight = api.sensitivity(*subject, options)
    kept = Options(
        metric=metric, max_memory=max_memory, curve=(0, 2), resume=tmp_path / "state.json"
    )
    progress, before = stopping(0.5)
    with pytest.raises(Stopped):
        api.sensitivity(*subject, kept, progress=progress)
    after = []
    resumed = api.sensitivity(*subject, kept, progress=lambda *told: after.append(told))
    assert resumed.to_json() == straight.to_json()
    left = [done for stage, done, _ in after if stage == "sensitivity" and done]
    assert 0 < len(left) <= len(before)  # about half of the steps were left


def test_a_finished_run_is_read_back(subject, tmp_path):
    options = Options(resume=tmp_path / "state.json")
    first, steps = api.sensitivity(*subject, options), []
    again = api.sensitivity(*subject, options, progress=lambda *step: steps.append(step))
    assert again == first
    assert {total for _, _, total in steps} == {1}  # no step of a stage was left to do


def test_the_state_of_another_run_is_refused(subject, tmp_path):
    path = tmp_path / "state.json"
    api.sensitivity(*subject, Options(resume=path))
    with pytest.raises(PlanError, match="was begun with another model, plan, data or options"):
        api.sensitivity(*subject, Options(resume=path, mode="one-off"))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": "onnxq.plan", "version": 1}'])
def test_a_file_that_is_no_state_is_refused(subject, tmp_path, text):
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(PlanError, match="holds no sensitivity analysis to resume"):
        api.sensitivity(*subject, Options(resume=path))
