"""A real scheduler and workers, each a process of its own on loopback; one is killed at a time.

Every kill leaves a worker less; the test that kills the last is the last.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from onnxq_cli.main import run

from onnxq.cluster import tasks
from onnxq.cluster.dask import connected
from onnxq.errors import ModelError, WorkerError
from onnxq.sensitivity import Options

pytest.importorskip("distributed", reason='no Dask here; pip install "onnxq[dask]"')
WORKERS = 4
WAIT = 120  # seconds for a busy machine to start Python a few times


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a scheduler with workers, without nannies that would start them again."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    quiet = ["--no-dashboard", "--scheduler-file", str(file)]
    local = ["--host", "127.0.0.1"]
    with ExitStack() as stack:

        def start(name, *more):
            command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *more, *quiet]
            log = stack.enter_context(open(folder / f"{name}.log", "ab"))
            # in a folder of its own: paths have to be understood wherever a worker stands
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)

        start("scheduler", *local, "--port", "0")
        for _ in range(WORKERS):
            start("worker", *local, "--no-nanny", "--nthreads", "1")
        yield _address(file)


def _address(file):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if file.exists() and file.stat().st_size:
            return json.loads(file.read_text())["address"]
        time.sleep(0.05)
    raise AssertionError("the scheduler did not start")


@pytest.fixture(scope="module")
def executor(address):
    with connected(address, seconds=WAIT) as executor:
        executor._client.wait_for_workers(WORKERS, timeout=WAIT)
        yield executor


@pytest.fixture
def killing(executor):
    """A progress callback that, once the first of several tasks is done, kills a worker that has
    one."""
    client = executor._client
    killed = []

    def progress(stage, done, total):
        if killed or not 0 < done < total:
            return
        pids = client.run(os.getpid)
        end = time.monotonic() + WAIT
        while not killed and time.monotonic() < end:
            for worker, running in client.processing().items():
                if running and not killed:
                    os.kill(pids[worker], signal.SIGKILL)
                    killed.append(worker)

    before = set(client.scheduler_info()["workers"])
    yield progress
    assert killed
    assert set(client.scheduler_info()["workers"]) == before - set(killed)


def test_statistics_have_the_same_bytes_though_a_worker_dies(subject, executor, killing, bytes_of):
    found = subject.calibrated(executor, progress=killing)
    assert bytes_of(found) == bytes_of(subject.stats)


def test_a_ranking_is_the_same_though_a_worker_dies(subject, executor, killing):
    options = Options(mode="one-off", split=True, curve=(0, 2))
    assert subject.ranked(options, executor, progress=killing) == subject.ranked(options)


def test_a_search_finds_the_same_though_a_worker_dies(subject, executor, killing):
    alone, found = subject.searched(), subject.searched(executor, progress=killing)
    assert (found.to_json(), found.plan) == (alone.to_json(), alone.plan)


def test_a_worker_that_cannot_read_the_model_says_so(copied, executor):
    copied.source.path.unlink()
    with pytest.raises(ModelError, match="cannot be read there; put it in a folder that all"):
        copied.calibrated(executor)


@pytest.mark.usefixtures("executor")  # its workers are there
def test_the_command_gives_the_same_files(address, copied, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["classifier.onnx", "--calib", "calib.npy", "--samples", "12"]
    verbs = {"calibrate": ["--save-stats", "{}.npz", "-o", "{}.json"],
             "sensitivity": ["-o", "{}.csv"]}  # fmt: skip
    for verb, outs in verbs.items():
        for name, more in (("alone", []), ("over", ["--dask", address])):
            files = [out.format(name) for out in outs]
            assert run([verb, *data, *more, *files]) == 0, capsys.readouterr().err
    assert copied.source.path.parent == tmp_path
    for suffix in ("npz", "json", "csv"):
        over, alone = (tmp_path / f"{name}.{suffix}" for name in ("over", "alone"))
        assert over.read_bytes() == alone.read_bytes()


def test_a_cluster_that_loses_its_last_worker_says_so(subject, executor, killing, monkeypatch):
    monkeypatch.setattr(tasks, "LOOK", 0.1)
    monkeypatch.setattr(tasks, "PATIENCE", 0.5)
    assert len(executor._client.scheduler_info()["workers"]) == 1
    with pytest.raises(WorkerError, match="the cluster has had no workers for"):
        subject.calibrated(executor, progress=killing)
