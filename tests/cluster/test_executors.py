"""The verbs over any executor give what this process alone gives, to the bit."""

from __future__ import annotations

import json
import multiprocessing
import random
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from onnxq import api
from onnxq.calib.checkpoint import Checkpoint
from onnxq.calib.observed import observed
from onnxq.errors import DataError, WorkerError
from onnxq.pipeline.counting import count
from onnxq.run.runtime import Runtime
from onnxq.sensitivity import Options


class Disorderly(Executor):
    """Runs each task twice, as after the loss of a worker, and in an order of its own."""

    def __init__(self, seed: int) -> None:
        self._random, self._waiting = random.Random(seed), []
        self._timer = None

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self._waiting.append((future, fn, args))
        if self._timer is None:
            self._timer = threading.Timer(0.2, self._run)
            self._timer.start()
        return future

    def _run(self):
        self._timer = None
        tasks, self._waiting = self._waiting, []
        self._random.shuffle(tasks)
        for future, fn, args in tasks:
            if future.set_running_or_notify_cancel():
                fn(*args)
                future.set_result(fn(*args))


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(params=["threads", "processes", "disorderly"])
def executor(request):
    if request.param == "processes":
        yield request.getfixturevalue("processes")
    elif request.param == "threads":
        with ThreadPoolExecutor(3) as pool:
            yield pool
    else:
        yield Disorderly(seed=1)


def test_statistics_have_the_same_bytes(subject, executor, bytes_of):
    assert bytes_of(subject.calibrated(executor)) == bytes_of(subject.stats)


def test_a_ranking_is_the_same(subject, executor):
    options = Options(curve=(0, 2))
    assert subject.ranked(options, executor) == subject.ranked(options)


@pytest.mark.parametrize(
    "options",
    [
        Options(mode="one-off", split=True, screen=1.0),
        Options(granularity="group", at="node", metric="kl"),
        Options(metric="top1", labels=np.arange(8) % 10, max_memory=1),
        Options(whole=True, screen=1.0),
    ],
    ids=["one-off", "groups", "labels", "whole"],
)
def test_a_ranking_of_any_kind_is_the_same(subject, processes, options):
    assert subject.ranked(options, processes) == subject.ranked(options)


def test_a_ranking_by_a_function_is_the_same(subject, tmp_path, monkeypatch):
    (tmp_path / "scoring_here.py").write_text(
        "def top(outputs):\n    return float(sum(o['logits'].max() for o in outputs))\n"
    )
    monkeypatch.chdir(tmp_path)
    options = Options(metric="scoring_here:top")
    with ThreadPoolExecutor(2) as pool:
        assert subject.ranked(options, pool) == subject.ranked(options)


@pytest.mark.parametrize("executor", ["processes", "disorderly"], indirect=True)
def test_a_search_finds_the_same(subject, executor):
    alone, found = subject.searched(), subject.searched(executor)
    assert (found.to_json(), found.plan) == (alone.to_json(), alone.plan)


def test_progress_counts_samples_and_toggles(subject):
    seen = []
    with ThreadPoolExecutor(2) as pool:
        subject.calibrated(pool, progress=lambda *step: seen.append(step))
        subject.ranked(Options(screen=1.0), pool, progress=lambda *step: seen.append(step))
    for stage in ("calibrate", "sensitivity"):
        counts, totals = zip(*((done, n) for name, done, n in seen if name == stage), strict=True)
        assert list(counts) == sorted(counts)
        assert counts[-1] == totals[-1] == totals[1]  # before, it had only begun
        assert len(counts) > 2


class Stopped(Exception):
    """Stands for Ctrl-C."""


def stop_after(steps):
    def progress(*told):
        nonlocal steps
        steps -= told[0] not in ("analyse", "analyse: open") and bool(told[-2])
        if steps < 0:
            raise Stopped

    return progress


def test_an_interrupted_calibration_goes_on_to_the_same_bytes(subject, tmp_path, bytes_of):
    names = observed(subject.source.graph, subject.plan)

    def counted(progress):
        kept = Checkpoint.open(tmp_path / "stats.npz", subject.source.sha256, names, seconds=0)
        with ThreadPoolExecutor(2) as pool:
            said = (subject.source, names, subject.dataset, Runtime(), progress, kept)
            return count(pool, *said)

    with pytest.raises(Stopped):
        counted(stop_after(4))
    left = Checkpoint.open(tmp_path / "stats.npz", subject.source.sha256, names)
    assert 0 < left.done.total() < len(subject.dataset)
    assert bytes_of(counted(lambda done, total: None)) == bytes_of(subject.stats)


def test_what_an_interrupted_run_here_counted_is_not_counted_again(subject, tmp_path, bytes_of):
    half = subject.dataset.select(range(12))
    begun = api.calibrate(subject.source, subject.plan, half)
    digests = [
        api.calibrate(subject.source, subject.plan, half.select([i])).data for i in range(12)
    ]
    begun.save_unfinished(tmp_path / "stats.npz", digests)
    seen = []
    with ThreadPoolExecutor(2) as pool:
        kept = tmp_path / "stats.npz"
        found = subject.calibrated(pool, checkpoint=kept, progress=lambda *step: seen.append(step))
    assert next(told for told in seen if told[1]) == ("calibrate", 12, 24)
    assert bytes_of(found) == bytes_of(subject.stats)


def test_an_interrupted_ranking_goes_on_to_the_same(subject, tmp_path):
    options = Options(curve=(0, 2))
    kept = replace(options, resume=tmp_path / "state.json")
    with ThreadPoolExecutor(2) as pool, pytest.raises(Stopped):
        subject.ranked(kept, pool, progress=stop_after(3))
    assert len(json.loads((tmp_path / "state.json").read_text())["sums"]) >= 4
    steps = []
    with ThreadPoolExecutor(2) as pool:
        found = subject.ranked(kept, pool, progress=lambda *step: steps.append(step))
    assert found == subject.ranked(options)
    counted = [done for stage, done, _ in steps if stage == "sensitivity" and done]
    assert counted[0] > 4  # of the toggles: those before are not measured again


def test_cached_statistics_need_no_worker(subject, tmp_path, bytes_of):
    config = replace(subject.source.preparation.config, cache=str(tmp_path))
    said = (subject.source, subject.plan, subject.dataset, config)
    with ThreadPoolExecutor(2) as pool:
        first = api.calibrate(*said, executor=pool)
    again = api.calibrate(*said, executor=pool)  # shut down: it would refuse a task
    assert bytes_of(first) == bytes_of(again) == bytes_of(subject.stats)


def test_data_that_is_drawn_is_drawn_by_the_workers_too(subject, processes, bytes_of):
    drawn = api.data(subject.source, ["random"], replace(subject.source.preparation.config, seed=3))
    said = (subject.source, subject.plan, drawn)
    alone = api.calibrate(*said)
    assert bytes_of(api.calibrate(*said, executor=processes)) == bytes_of(alone)


def test_no_samples_are_refused(subject, executor):
    none = subject.dataset.select([])
    with pytest.raises(DataError, match="there are no calibration samples"):
        api.calibrate(subject.source, subject.plan, none, executor=executor)


def test_an_executor_that_was_shut_down_is_refused(subject):
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(WorkerError, match="the executor takes no tasks"):
        subject.calibrated(pool)
