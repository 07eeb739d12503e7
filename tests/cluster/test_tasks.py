"""Tasks: how work is split, what a worker keeps, and what is said when it cannot do its part."""

from __future__ import annotations

import os
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxq import api
from onnxq.calib.data import Dataset
from onnxq.cluster import kept
from onnxq.cluster.tasks import Job, parts_of, result_of, results, submitted
from onnxq.errors import DataError, ModelError, WorkerError
from onnxq.pipeline.opening import ModelSpec


@given(st.integers(0, 200), st.integers(1, 20), st.integers(1, 20))
def test_parts_are_all_the_items_in_order_and_none_is_empty(items, threads, tasks):
    with ThreadPoolExecutor(threads) as pool:
        parts = parts_of(range(items), pool, tasks)
    assert len(parts) == min(items, tasks * threads)
    assert [i for part in parts for i in part] == list(range(items))
    assert all(parts)
    assert max(map(len, parts), default=0) - min(map(len, parts), default=0) <= 1


@pytest.fixture
def over_threads(copied):
    """Calibrates the copied model on a thread: the worker reads the same files as this process."""

    def calibrate(source=None, dataset=None):
        with ThreadPoolExecutor(1) as pool:
            return api.calibrate(
                source or copied.source, copied.plan, dataset or copied.dataset, executor=pool
            )

    return calibrate


def test_a_model_that_is_not_there_is_named(copied, over_threads):
    copied.source.path.unlink()
    with pytest.raises(ModelError, match=r"onnx' cannot be read there; put it in .* \(on"):
        over_threads()


def test_another_model_at_the_path_is_refused(copied, over_threads):
    model = onnx.load(copied.source.path)
    model.doc_string = "another"
    onnx.save(model, copied.source.path)
    with pytest.raises(ModelError, match="is another model there"):
        over_threads()


def test_a_graph_that_was_changed_after_it_was_prepared_is_refused(copied, over_threads):
    graph = copied.source.graph.copy()
    weight = next(t for node in graph.nodes for t in node.inputs if hasattr(t, "values"))
    weight.values = weight.values * 2
    with pytest.raises(ModelError, match="a graph that was not changed after 'prepare'"):
        over_threads(source=replace(copied.source, graph=graph))


def test_data_that_is_not_there_is_named(copied, over_threads, tmp_path):
    (tmp_path / "calib.npy").unlink()
    with pytest.raises(DataError, match=r"calib.npy' cannot be read there; put it in a folder"):
        over_threads()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(lambda x: x[:5], "holds fewer samples there"), (lambda x: x + 1, "holds other samples")],
    ids=["fewer", "others"],
)
def test_other_data_at_the_path_is_refused(copied, over_threads, tmp_path, spoil, message):
    found = np.load(tmp_path / "calib.npy")
    (tmp_path / "calib.npy").unlink()  # or the array that this process has mapped would change
    np.save(tmp_path / "calib.npy", spoil(found))
    with pytest.raises(DataError, match=message):
        over_threads()


def test_samples_that_no_path_leads_to_are_refused(copied, over_threads):
    mine = Dataset(copied.dataset.inputs, copied.dataset.rows)
    with pytest.raises(DataError, match=r"needs a dataset from onnxq\.api\.data"):
        over_threads(dataset=mine)


def test_a_task_is_small_though_the_data_is_not(copied):
    spec = ModelSpec.of(copied.source)
    assert len(pickle.dumps(spec)) < 10_000 < copied.source.path.stat().st_size


def nothing(job: Job, part: int) -> int:
    return part


def death(job: Job, part: int) -> int:
    os._exit(1)


def test_workers_with_another_version_are_refused():
    job = replace(Job.of(None), versions=("0.0.9", "1.2.3"))
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(WorkerError, match=r"has onnxq .*, and here is 0.0.9 with ONNX Runtime 1.2"),
    ):
        result_of(pool, submitted(pool, nothing, job, 1))


def test_a_pool_whose_process_dies_says_that_workers_were_lost():
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        pytest.raises(WorkerError, match="workers were lost"),
    ):
        list(results(pool, death, Job.of(None), [1]))


def test_tasks_that_have_not_begun_are_cancelled_when_one_fails():
    begun, gate = [], threading.Event()

    def work(job, part):
        begun.append(part)
        gate.wait(10)
        if part == 0:
            raise DataError("no")
        return part

    with ThreadPoolExecutor(1) as pool:
        threading.Timer(0.1, gate.set).start()
        with pytest.raises(DataError, match=r"no \(on the worker"):
            list(results(pool, work, Job.of(None), range(50)))
    assert len(begun) < 50


def test_tasks_that_have_not_begun_are_cancelled_when_their_results_are_not_wanted():
    begun = []

    def work(job, part):
        begun.append(part)
        time.sleep(0.01)
        return part

    with ThreadPoolExecutor(1) as pool:
        found = results(pool, work, Job.of(None), range(50))
        assert next(found) == (0, 0)
        found.close()
    assert len(begun) < 50


def test_what_is_shared_is_built_once_though_many_ask():
    built = []
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(kept.shared, "once", lambda: built.append(1) or 7) for _ in range(50)]
        assert [one.result() for one in asked] == [7] * 50
    assert len(built) == 1


def test_what_is_borrowed_is_one_tasks_alone_and_used_again():
    with kept.borrowed("mine", list) as first, kept.borrowed("mine", list) as second:
        assert first is not second
    with kept.borrowed("mine", list) as again:
        assert any(again is one for one in (first, second))


def test_what_was_borrowed_when_an_error_came_is_not_used_again():
    with pytest.raises(ValueError, match="broken"), kept.borrowed("spoiled", list) as spoiled:
        raise ValueError("broken")
    with kept.borrowed("spoiled", list) as fresh:
        assert fresh is not spoiled


def test_a_process_keeps_a_few_values_and_after_a_while_without_tasks_none(monkeypatch):
    monkeypatch.setattr(kept, "IDLE", 0.01)
    for i in range(3 * kept.MOST):
        kept.shared(f"value {i}", list)
        with kept.borrowed(f"value {i}", list):
            pass
    assert len(kept._shared) == kept.MOST
    assert [key for key, _ in kept._idle] == [f"value {i}"]
    with kept.task():
        pass
    kept._timer.join(10)
    assert not kept._shared
    assert not kept._idle
