"""A calibration that is killed goes on where it was, to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxq.calib.checkpoint import Checkpoint
from onnxq.calib.collect import collect
from onnxq.calib.stats import Stats
from onnxq.errors import DataError, ModelError
from onnxq.model import graph as graphs

NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 3] x) => (float[N, 3] y) { a = Sigmoid(x) b = Mul(x, a) y = Relu(b) }
"""
TENSORS = ["x", "b"]
SAMPLES = 40


class Rows:
    """Samples in memory, of which some cannot be read; counts those that were."""

    def __init__(self, rows, broken=()):
        self.rows, self.broken, self.read = rows, set(broken), []

    def __len__(self):
        return len(self.rows)

    def sample(self, i):
        if i in self.broken:
            raise DataError(f"sample {i} cannot be read")
        self.read.append(i)
        return {"x": self.rows[i]}


def rows(seed=0):
    return np.random.default_rng(seed).standard_normal((SAMPLES, 1, 3)).astype(np.float32)


def counted(data, path, model="m", workers=2):
    """Statistics counted with a checkpoint after every sample."""
    graph = graphs.from_proto(onnx.parser.parse_model(NET))
    checkpoint = Checkpoint.open(path, model, TENSORS, seconds=0)
    return collect(graph, TENSORS, data, model=model, workers=workers, checkpoint=checkpoint)


def saved(stats, path):
    stats.save(path)
    return path.read_bytes()


@pytest.fixture
def whole(tmp_path):
    return saved(counted(Rows(rows()), tmp_path / "whole.npz"), tmp_path / "whole.npz")


@pytest.fixture
def unfinished(tmp_path):
    path = tmp_path / "stats.npz"
    with pytest.raises(DataError, match="sample 17"):
        counted(Rows(rows(), broken=[17]), path)
    return path


def test_a_run_that_failed_goes_on_and_ends_in_the_same_bytes(unfinished, whole):
    data = Rows(rows())
    assert saved(counted(data, unfinished), unfinished) == whole


def test_what_was_counted_is_not_counted_again(unfinished):
    left = Checkpoint.open(unfinished, "m", TENSORS)
    missing = left.missing(Rows(rows()))
    assert 17 in missing
    assert len(missing) == SAMPLES - left.begun.samples < SAMPLES


def test_samples_in_another_order_go_on_too(unfinished, whole):
    assert saved(counted(Rows(rows()[::-1]), unfinished), unfinished) == whole


def test_a_sample_that_occurs_twice_is_counted_twice(tmp_path):
    twice, path = np.concatenate([rows(), rows()]), tmp_path / "stats.npz"
    with pytest.raises(DataError, match="sample 60"):
        counted(Rows(twice, broken=[60]), path)
    stats = counted(Rows(twice), path)
    assert stats.samples == 2 * SAMPLES
    assert stats == counted(Rows(twice), tmp_path / "other.npz")


def test_an_unfinished_file_gives_no_ranges(unfinished):
    with pytest.raises(DataError, match="is unfinished"):
        Stats.load(unfinished)


def test_another_models_unfinished_run_is_left_alone(unfinished):
    before = unfinished.read_bytes()
    with pytest.raises(DataError, match="another model, plan or options"):
        counted(Rows(rows()), unfinished, model="other")
    assert unfinished.read_bytes() == before


def test_data_without_what_was_counted_is_refused(unfinished):
    with pytest.raises(DataError, match="samples that the data does not have"):
        counted(Rows(rows(seed=1)), unfinished)


def test_a_finished_file_is_begun_anew(tmp_path, whole):
    path = tmp_path / "whole.npz"
    data = Rows(rows())
    assert saved(counted(data, path), path) == whole
    assert set(data.read) == set(range(SAMPLES))


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {root!r}]
import test_checkpoint as t
class Deadly(t.Rows):
    def sample(self, i):
        if i == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sample(i)
t.counted(Deadly(t.rows()), t.Path({path!r}))
"""


def test_a_run_killed_again_and_again_ends_in_the_same_bytes(tmp_path, whole):
    path = tmp_path / "stats.npz"
    here = Path(__file__).resolve()
    for at in (5, 6, 20, 39):
        script = KILLED.format(
            tests=str(here.parent), root=str(here.parents[2]), at=at, path=str(path)
        )
        done = subprocess.run([sys.executable, "-c", script], env={**os.environ}, check=False)
        assert done.returncode == -signal.SIGKILL
    assert saved(counted(Rows(rows()), path), path) == whole
    assert list(tmp_path.glob("*.tmp*")) == []


def test_a_sample_that_fails_in_the_middle_is_not_in_the_checkpoint(tmp_path):
    class Last(Rows):
        """The last sample does not fit the model, which ONNX Runtime says after x was counted."""

        asked = threading.Event()

        def sample(self, i):
            if i == len(self.rows) - 1:
                self.asked.set()
                return {"x": np.ones((1, 5), np.float32)}
            return super().sample(i)

    data, path = Last(rows()[:3]), tmp_path / "stats.npz"

    def wait(done, _):
        if done == 2:
            assert data.asked.wait(10)
            time.sleep(0.2)  # for the failure, which only the next thing written would show

    checkpoint = Checkpoint.open(path, "m", TENSORS, seconds=0)
    graph = graphs.from_proto(onnx.parser.parse_model(NET))
    with pytest.raises(ModelError):
        collect(graph, TENSORS, data, workers=1, progress=wait, checkpoint=checkpoint, model="m")
    left = Checkpoint.open(path, "m", TENSORS).begun
    assert left is None or left["x"].count == 3 * left.samples
