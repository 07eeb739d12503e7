"""Progress: every stage of every command is shown, its parts within it."""

import io
import logging
import threading

import numpy as np
import pytest
from onnxq_cli import progress as bars
from onnxq_cli.main import run

from onnxq import progress
from onnxq.progress import count, counted, counting, silent, stage, steps, telling, told
from onnxq.run import runtime as ort

COMMANDS = {  # what runs a model, on the classifier
    "quantize": "{model} --calib {data} -o q2.onnx --report q.html --recover scales,bias",
    "quantize by a search": "{model} --calib {data} -o q2.onnx --recover equalize --samples 8",
    "quantize by a method": "{model} --calib {data} -o q2.onnx --method auto --recover none",
    "quantize in 4 bits": "{model} --calib {data} -o q2.onnx --scheme w4a8 --samples 12",
    "quantize to FP16": "{model} --calib {data} -o q2.onnx --high-precision fp16",
    "quantize for ONNX Runtime": "{model} --calib {data} -o q2.onnx --target onnxruntime",
    "calibrate": "{model} --calib {data} -o ranges.json --enough",
    "sensitivity": "{model} --calib {data} --samples 4",
    "search": "{model} --calib {data} --min-sqnr 20 --points 1 --trials 1 -o s.yaml",
    "recipe": "{model} --calib {data} --worst 0,1 -o folder",
    "compare": "{model} q.onnx --calib {data}",
    "diff": "{model} q.onnx --calib {data} --reference {model}",
    "inspect": "q.onnx --calib {data}",
    "data": "--model {model} --from {data} --pick 4 -o picked.npz",
}


@pytest.fixture
def quantized(onnxq, classifier, images, folder):
    """The classifier's `q.onnx` in the folder."""
    words = ("quantize", classifier, "--calib", images, "--recover", "none", "-o", "q.onnx")
    assert onnxq(*words).code == 0


@pytest.mark.usefixtures("quantized")
@pytest.mark.parametrize("what", COMMANDS)
def test_every_stage_of_a_command_is_shown(what, classifier, images, monkeypatch):
    seen, within = [], []
    shown = bars.Bars.__call__

    def noting(self, name, done, total):
        seen.append((name, done, total))
        shown(self, name, done, total)

    def looking(do):
        def call(*args, **kwargs):
            if threading.current_thread() is threading.main_thread():
                within.append(progress._here().name)
            return do(*args, **kwargs)

        return call

    monkeypatch.setattr(bars.Bars, "__call__", noting)
    for name in ("_opened_session", "run", "run_bound"):
        monkeypatch.setattr(ort, name, looking(getattr(ort, name)))
    words = COMMANDS[what].format(model=classifier, data=images).split()
    assert run([what.split()[0], *words]) in (0, 1)
    assert within
    assert all(within), "a model is opened or run, and no stage is under way"
    last = {name: (done, total) for name, done, total in seen}
    left = {name: how for name, how in last.items() if ": " not in name and how[0] < how[1]}
    assert left == {}, "stages that do not end"
    begun = {""}
    for name, done, total in seen:
        assert 0 <= done <= total > 0
        assert name.rpartition(": ")[0] in begun, "a part stands within its stage"
        begun.add(name)


def told_by(work):
    seen = []
    with telling(lambda *step: seen.append(step)):
        work()
    return seen


def test_a_stage_is_told_when_it_begins_and_when_it_ends():
    def work():
        with stage("read"):
            pass

    assert told_by(work) == [("read", 0, 1), ("read", 1, 1)]


def test_parts_are_named_within_their_stage():
    def work():
        with stage("recover"), stage("rounding"):
            count(3, 40)
            tick = counting("samples", 2)
            tick()
            assert list(steps("weights", "ab", 2)) == ["a", "b"]

    assert told_by(work) == [
        ("recover", 0, 1),
        ("recover: rounding", 0, 1),
        ("recover: rounding", 3, 40),
        ("recover: rounding: samples", 0, 2),
        ("recover: rounding: samples", 1, 2),
        ("recover: rounding: weights", 0, 2),
        ("recover: rounding: weights", 1, 2),
        ("recover: rounding: weights", 2, 2),
        ("recover: rounding", 40, 40),
        ("recover", 1, 1),
    ]


def test_a_stage_within_itself_is_itself_and_its_end_is_told_once():
    def work():
        with stage("compare"), stage("compare"):
            tick = counted(2)
            tick()
            tick()

    assert told_by(work) == [("compare", 0, 1), ("compare", 1, 2), ("compare", 2, 2)]


def test_a_stage_that_fails_is_not_told_to_be_through():
    def work():
        with pytest.raises(ValueError, match="no"), stage("read"):
            raise ValueError("no")

    assert told_by(work) == [("read", 0, 1)]


def test_a_verb_tells_its_own_progress_and_else_whoever_is_told():
    @told
    def verb(progress=silent):
        with stage("read"):
            pass

    inner = []
    outer = told_by(lambda: (verb(), verb(progress=lambda *step: inner.append(step))))
    assert outer == inner == [("read", 0, 1), ("read", 1, 1)]


def test_nobody_is_told_where_nobody_asked_and_what_threads_do_is_silent():
    def work():
        thread = threading.Thread(target=lambda: list(steps("x", "ab", 2)))
        thread.start()
        thread.join()

    assert told_by(work) == []
    with stage("read"):
        count(1, 2)


@pytest.fixture
def terminal(monkeypatch):
    """What is shown on a terminal of 80 columns."""
    shown = io.StringIO()
    console = bars.Console(file=shown, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(bars, "Console", lambda stderr: console)
    return shown


def test_parts_stand_below_their_stage_for_as_long_as_they_last(terminal):
    with bars.Bars() as bar, stage("recover"):
        with stage("rounding"):
            count(3, 40)
            bar._progress.refresh()
            within = terminal.getvalue()
        bar._progress.refresh()
        after = terminal.getvalue()[len(within) :]
    assert "recover" in within
    assert "  rounding" in within
    assert " 3/40" in within
    assert "rounding" not in after.rpartition("recover")[2]


def test_a_stage_that_comes_again_begins_anew(terminal):
    with bars.Bars() as bar:
        bar("compare", 2, 2)
        bar("compare", 1, 4)
        assert not bar._progress.finished
        bar("compare", 4, 4)
        assert bar._progress.finished
        assert len(bar._progress.tasks) == 1


def test_an_error_leaves_no_bar_on_the_terminal(terminal):
    with pytest.raises(ValueError, match="no"), bars.Bars(), stage("read"):
        raise ValueError("no")
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is cleared


def test_v_names_the_parts_that_took_long(caplog, monkeypatch):
    clock = iter(np.cumsum([0, 0, 5, 0, 0.1, 0]))
    monkeypatch.setattr(bars.time, "perf_counter", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO, "onnxq.progress"), bars.Bars(), stage("recover"):
        with stage("rounding"):
            pass
        with stage("bias"):
            pass
    assert [record.getMessage() for record in caplog.records] == [
        "recover: rounding: 1 of 1, 5.0 s",
        "recover: 1 of 1, 5.1 s",
    ]
